"""One process or two, even or uneven shards, an empty one: the same rollout and the same parameters."""

from __future__ import annotations

import csv
import time

import pyarrow.parquet as pq
import pytest
import torch

from nft_lightning.assets import tiny_policy_path
from nft_lightning.checkpointing.folder import read_checkpoint
from tests.end_to_end.rank_runs import run_here, runs

pytestmark = pytest.mark.slow

CASES = {
    **{name: [f"algorithm={name}"] for name in ("nft", "grpo", "dapo", "infonca", "ppo")},
    "one_problem": ["rollout.plan.problems_per_rollout=1", "rollout.plan.completions_per_problem=8"],
}
DDP = ("trainer=ddp", "trainer.devices=2", "trainer.max_epochs=1")


def parameters(folder):
    return read_checkpoint(folder / "checkpoints" / "last")["state_dict"]


def rollout(folder):
    rows = pq.read_table(folder / "rollouts" / "epoch_0000.parquet").to_pylist()
    return [(r["problem"], r["token_ids"], r["verdict"]) for r in rows]


def metrics(folder):
    with open(folder / "metrics.csv") as file:
        return next(r for r in csv.DictReader(file) if r["objective/loss"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for name, overrides in CASES.items():
        run_here(folder, name, overrides)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    runs(folder, {**CASES, "not_finite": []}, 2, *DDP)
    return folder


def agree(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.allclose(value.double(), other[key].double(), rtol=0, atol=1e-5), key


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_agree_with_one(alone, two, name):
    assert rollout(two / name) == rollout(alone / name)
    one, other = parameters(alone / name), parameters(two / name)
    assert int(one["updates_done"]) == (1 if name == "one_problem" else 3)
    agree(one, other)


def test_metrics_add_up_over_the_ranks(alone, two):
    one, other = metrics(alone / "nft"), metrics(two / "nft")
    measured = ("time/", "checkpoint/", "batching/")
    names = [n for n in one if one[n] and not n.startswith(measured)]
    assert len(names) > 30
    for name in names:
        assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-3, abs=1e-5), name
    assert float(other["time/gather_seconds"]) >= 0


def test_the_parameters_moved(alone):
    from safetensors.torch import load_file

    before = load_file(tiny_policy_path("tiny") / "model.safetensors")
    after = parameters(alone / "nft")
    moved = [(after[f"policy.model.{k}"] - v).abs().max() for k, v in before.items()]
    assert max(moved) > 2e-4


def test_an_update_that_all_ranks_skip_counts_once(two):
    with open(two / "not_finite" / "metrics.csv") as file:
        (row,) = (r for r in csv.DictReader(file) if r["objective/loss"])
    assert float(row["optimizer/skipped_updates"]) == 3


def test_a_rank_that_fails_ends_all_with_its_own_error(tmp_path):
    started = time.perf_counter()
    said = runs(tmp_path, {"engine_fails": []}, 2, *DDP, succeed=False)
    assert time.perf_counter() - started < 90
    assert "RunStoppedError: the engine failed while it wrote completions (RuntimeError: the dev" in said
