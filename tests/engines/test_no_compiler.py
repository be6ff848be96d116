"""vLLM on processors without a C++ compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.forked_ranks import ROOT

SCRIPT = """
from pathlib import Path
import sys
from tests.end_to_end.rank_runs import run_here
run_here(Path(sys.argv[1]), "run", ["rollout=vllm", "rollout.engine.max_num_seqs=16"])
"""


@pytest.mark.vllm
def test_a_run_needs_no_compiler(tmp_path):
    pytest.importorskip("vllm")
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("sh", "lscpu"):  # by which vLLM looks for the machine's cores
        (commands / name).symlink_to(shutil.which(name))
    hidden = {
        "PATH": str(commands),
        "CXX": "",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, **hidden},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert (tmp_path / "run" / "summary.json").is_file()
    assert not list((tmp_path / "compiled").rglob("*.so"))
