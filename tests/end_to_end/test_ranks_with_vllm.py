"""Several ranks with vLLM in each: one group, one policy, and the one that a single process trains."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from nft_lightning.checkpoints.folder import read_checkpoint
from tests.end_to_end.rank_runs import SETTINGS
from tests.forked_ranks import ROOT, run_ranks
from tests.processes import TRAIN, cli

SHARED_MEMORY = Path("/dev/shm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def train(folder, *overrides, forked_ranks=0):
    """``nft-train`` with vLLM in its processes; it starts its ranks, or they are forked here.

    Those that share memory remove it when Python ends, which a forked one does not wait for.
    """
    note = f"+callbacks.note={{_target_: tests.end_to_end.notes.Note, folder: {folder}}}"
    words = ["rollout=vllm", *SETTINGS, note, f"run_dir={folder}", *overrides]
    if forked_ranks:
        result = run_ranks(forked_ranks, TRAIN, *words, timeout_seconds=300)
    else:
        result = cli(*words, timeout=300, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


def noted(folder, rank):
    return json.loads((folder / f"rank_{rank}.json").read_text())


def rollout(folder):
    rows = pq.read_table(folder / "rollouts" / "epoch_0000.parquet").to_pylist()
    return [(r["problem"], r["token_ids"], r["verdict"]) for r in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("vllm") / "alone")


def check_one_policy(run, alone, ranks):
    found = [noted(run, rank) for rank in range(ranks)]
    assert [f["world_size"] for f in found] == [ranks] * ranks
    assert len({f["checksum"] for f in found}) == 1
    assert rollout(run) == rollout(alone)
    states = [read_checkpoint(folder / "checkpoints" / "last") for folder in (alone, run)]
    assert [state["updates_done"] for state in states] == [3, 3]
    one, other = (state["state_dict"] for state in states)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.allclose(value.double(), other[key].double(), rtol=0, atol=1e-5), key
    return found


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "zero2", "zero3"])
def test_two_ranks_train_the_policy_of_one(alone, tmp_path, strategy):
    # The launcher is the same for all of them.
    forked = 0 if strategy == "ddp" else 2
    run = train(tmp_path / "run", f"trainer={strategy}", "trainer.devices=2", forked_ranks=forked)
    held = [f["held"] for f in check_one_policy(run, alone, 2)]
    assert held == [noted(alone, 0)["held"]] * 2


@pytest.fixture
def left_by_a_killed_run():
    """Shared memory by the names that vLLM gives to all runs whose ranks it did not start itself."""
    left = [SHARED_MEMORY / f"-tp:0-[0-1]-cpushm_{rank}" for rank in range(2)]
    for path in left:
        path.touch()
    yield
    for path in left:
        path.unlink()


@pytest.mark.usefixtures("left_by_a_killed_run")
def test_two_ranks_hold_one_copy_together(alone, tmp_path):
    tensor_parallel = "rollout.engine.tensor_parallel_size=2"
    before = set(SHARED_MEMORY.glob("*cpushm*"))
    words = ["trainer=ddp", "trainer.devices=2", tensor_parallel]
    run = train(tmp_path / "run", *words)
    whole = noted(alone, 0)["held"]
    for found in check_one_policy(run, alone, 2):
        assert 0.45 * whole < found["held"] < 0.6 * whole
    assert set(SHARED_MEMORY.glob("*cpushm*")) == before


def test_sharded_adapters_reach_one_copy_on_two_ranks(tmp_path):
    adapters = ["policy.lora_rank=4", "optimizer.learning_rate=1e-3", "rollout.engine.adapters=alone"]
    one = train(tmp_path / "one", *adapters)
    tensor_parallel = "rollout.engine.tensor_parallel_size=2"
    words = ["trainer=fsdp2", "trainer.devices=2", tensor_parallel, *adapters]
    run = train(tmp_path / "two", *words)
    check_one_policy(run, one, 2)
