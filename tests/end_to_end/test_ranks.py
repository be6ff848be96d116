"""Two processes under torchrun train as one does, each with a verifier pool of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from nft_lightning.checkpoints.folder import read_checkpoint
from tests.forked_ranks import run_ranks
from tests.processes import cli

pytestmark = pytest.mark.slow

SETTINGS = (
    "problems=jsonl",
    "problems.prompt.template=equals",
    "trainer.max_epochs=2",
    "rollout.problems_per_rollout=8",
    "evaluation.problems=7",
    "evaluation.every_epochs=1",
    "callbacks.progress=null",
)


@pytest.fixture
def fractions(tmp_path):
    """Golds that plain comparison leaves to math-verify."""
    path = tmp_path / "problems.jsonl"
    rows = [(f"{i % 19 + 1}+{i % 7 + 1}-3", 2 * (i % 19 + i % 7 - 1)) for i in range(80)]
    path.write_text(
        "".join(json.dumps({"problem": p, "answer": rf"\frac{{{a}}}{{2}}"}) + "\n" for p, a in rows)
    )
    return path


def rollout(folder: Path) -> list[tuple[str, str, str]]:
    rows = pq.read_table(folder / "rollouts" / "epoch_0000.parquet").to_pylist()
    return [(r["problem"], r["completion"], r["verdict"]) for r in rows]


def evaluations(folder: Path) -> list[float]:
    with open(folder / "metrics.csv") as file:
        return [float(r["eval/avg_at_8"]) for r in csv.DictReader(file) if r["eval/avg_at_8"]]


def test_two_ranks_are_one_run(fractions, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    settings = [*SETTINGS, f"problems.path={fractions}"]
    assert cli(*settings, f"run_dir={one}").returncode == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, "-m", "nft_lightning.cli.train", "trainer=ddp", "trainer.devices=2"]
    result = subprocess.run(
        [*command, *settings, f"run_dir={two}"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert rollout(one) == rollout(two)
    assert {v for _, _, v in rollout(two)} <= {"correct", "wrong", "unparsable"}
    assert evaluations(two) == pytest.approx(evaluations(one), abs=0.1)
    assert evaluations(two)[0] == pytest.approx(evaluations(one)[0], abs=1e-6)
    assert len(list((two / "rollouts").iterdir())) == 2


def ranks(count: int, *arguments: str) -> None:
    overrides = ["trainer=ddp", f"trainer.devices={count}", *arguments]
    result = run_ranks(count, "nft_lightning.cli.train", *overrides)
    assert result.returncode == 0, result.stderr


def test_a_run_goes_on_with_more_or_fewer_ranks(fractions, tmp_path):
    settings = [*SETTINGS, f"problems.path={fractions}", "resume=auto"]
    short = "trainer.max_epochs=1"
    one, fewer, more = (tmp_path / name for name in ("one", "fewer", "more"))
    assert cli(*settings, f"run_dir={one}").returncode == 0
    ranks(2, *settings, short, f"run_dir={fewer}")
    resumed = cli(*settings, f"run_dir={fewer}")
    assert resumed.returncode == 0, resumed.stderr
    assert cli(*settings, short, f"run_dir={more}").returncode == 0
    ranks(2, *settings, f"run_dir={more}")
    states = [read_checkpoint(run / "checkpoints" / "last") for run in (one, fewer, more)]
    assert len({state["updates_done"] for state in states}) == 1
    weights = [state["state_dict"] for state in states]
    for other in weights[1:]:
        assert all(torch.allclose(weights[0][k].double(), other[k].double(), atol=1e-4) for k in other)
    for run in (fewer, more):
        assert rollout(run) == rollout(one)
        assert len(evaluations(run)) == len(evaluations(one))
        assert evaluations(run)[:2] == pytest.approx(evaluations(one)[:2], abs=1e-6)
