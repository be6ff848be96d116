"""Two ranks with one server: the first asks for both, and both train on the same completions."""

from __future__ import annotations

import json

import pytest

from tests.engines.shared import shared_vllm_server
from tests.forked_ranks import run_ranks
from tests.processes import TRAIN

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def train(*words):
    """Two ranks of ``nft-train`` that have vLLM servers."""
    given = ["trainer.devices=2", "rollout=vllm_server", "callbacks.progress=null", *words]
    return run_ranks(2, TRAIN, *given, timeout_seconds=240)


@pytest.mark.parametrize("trainer", ["ddp", "fsdp2", "zero2"])
def test_two_ranks_with_one_server(tmp_path, quick, trainer):
    addresses = f"rollout.engine.addresses=[{shared_vllm_server().address}]"
    run = tmp_path / "run"
    result = train(f"trainer={trainer}", addresses, f"run_dir={run}", *quick)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((run / "summary.json").read_text())["updates"] == 4


def test_two_ranks_without_a_server_end_alike(tmp_path, quick):
    address = "rollout.engine.addresses=[http://127.0.0.1:9]"
    patience = "rollout.engine.wait_for_server_seconds=0"
    result = train("trainer=ddp", address, patience, f"run_dir={tmp_path / 'run'}", *quick)
    assert result.returncode != 0
    assert "stopped: none of the 1 vLLM servers was well within 0 seconds" in result.stderr
