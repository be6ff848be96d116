"""Every block of code in a page: Python compiles and runs, the others parse."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, Block, blocks
from tests.docs.test_tutorials import EXPECTED
from tests.processes import cli

# What a block needs that no test makes: the export of an earlier run.
NOT_RUN = 'from_pretrained("runs/own/export")'
# Run in tests/front, with the files that it needs.
WHOLE_SCRIPT = (ROOT / "examples" / "own_model.py").read_text().strip()
PYTHON = blocks("python")


def runs(block: Block) -> bool:
    """Those of tutorials that can be followed run with the rest of their page, in test_tutorials.py."""
    followed = Path(block.page).stem in EXPECTED
    return not followed and block.text.strip() != WHOLE_SCRIPT and NOT_RUN not in block.text


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block):
    ast.parse(block.text)


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in PYTHON if runs(block)], ids=str)
def test_python_runs(block, tmp_path):
    (tmp_path / "block.py").write_text(block.text)
    ended = cli(module=str(tmp_path / "block.py"), cwd=tmp_path, timeout=500)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_the_quick_start_is_short():
    (block,) = [block for block in PYTHON if block.page == "README.md"]
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize("block", blocks("json", "jsonl", "yaml"), ids=str)
def test_data_parses(block):
    if block.language == "yaml":
        assert yaml.safe_load(block.text)
    for line in block.text.splitlines() if block.language != "yaml" else []:
        assert json.loads(line)


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_bash_parses(block):
    ended = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (1, False)])
def test_the_slurm_script_requeues_a_run_that_left(code, requeued, tmp_path):
    (script,) = [block for block in blocks("bash") if "scontrol requeue" in block.text]
    programs = {"srun": f'echo "$@" > asked; exit {code}', "scontrol": 'echo "$@" > requeued'}
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path)}
    environment |= {"SLURM_JOB_NAME": "nft", "SLURM_JOB_ID": "7"}
    ended = subprocess.run(["bash", "-c", script.text], env=environment, cwd=tmp_path)
    assert ended.returncode == code
    assert "run_dir=runs/nft resume=auto" in (tmp_path / "asked").read_text()
    assert (tmp_path / "requeued").exists() == requeued
