"""Two ranks with one server: the first asks for both, and both train on the same completions."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.engines.shared import ROOT, shared_vllm_server

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.mark.parametrize("trainer", ["ddp", "fsdp2", "zero2"])
def test_two_ranks_with_one_server(tmp_path, quick, trainer):
    address, run = shared_vllm_server().address, tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, "-m", "nft_lightning.cli.train", f"trainer={trainer}", "trainer.devices=2"]
    command += ["rollout=vllm_server", f"rollout.engine.addresses=[{address}]", f"run_dir={run}"]
    result = subprocess.run(
        [*command, "callbacks.progress=null", *quick],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((run / "summary.json").read_text())["updates"] == 4


def test_two_ranks_without_a_server_end_alike(tmp_path, quick):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, "-m", "nft_lightning.cli.train", "trainer=ddp", "trainer.devices=2"]
    command += ["rollout=vllm_server", "rollout.engine.addresses=[http://127.0.0.1:9]"]
    command += ["rollout.engine.wait_for_server_seconds=0", f"run_dir={tmp_path / 'run'}"]
    result = subprocess.run(
        [*command, "callbacks.progress=null", *quick],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode != 0
    assert "stopped: none of the 1 vLLM servers was well within 0 seconds" in result.stderr
