"""``debug=`` and ``logger=many`` through the config as the command line composes it."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest

from nft_lightning.app import run as running
from nft_lightning.app.build import options_of

pytestmark = pytest.mark.slow
FEW = ("verifier=exact", "rollout.max_new_tokens=16", "callbacks.progress=null")


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run_of(tmp_path, compose_config):
    def run(*overrides):
        running.run(compose_config(f"run_dir={tmp_path}", *overrides))
        return tmp_path

    return run


def test_the_options_are_those_that_are_tested():
    assert options_of("debug") == ["default", "limit", "overfit", "profiler"]


def test_default_makes_one_update_and_evaluates(run_of):
    folder = run_of("debug=default", *FEW)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["updates"], summary["ended_by"]) == (1, "max_steps")
    assert summary["after"].keys() == summary["before"].keys()
    # Lightning gives a fast_dev_run no logger.
    assert not (folder / "metrics.csv").exists()


def test_limit_runs_two_epochs_of_few_problems_and_every_logger_has_them(run_of):
    folder = run_of("debug=limit", "logger=many", *FEW)
    summary = json.loads((folder / "summary.json").read_text())
    updates = rows(folder / "updates.csv")
    assert summary["epochs"] == 2
    # Groups that are all right or all wrong may leave an update with nothing to learn from.
    assert 0 < summary["updates"] == len(updates) <= 4
    theirs = [row for row in rows(folder / "lightning_csv" / "metrics.csv") if row["update/loss"]]
    assert [row["update/loss"] for row in theirs] == [row["update/loss"] for row in updates]
    assert [row["step"] for row in theirs] == [row["step"] for row in updates]
    assert list((folder / "tensorboard").iterdir())


def test_overfit_asks_the_same_problems_until_they_are_right(run_of):
    folder = run_of("debug=overfit", "trainer.max_epochs=6", "callbacks.progress=null")
    tables = [pq.read_table(path).to_pydict() for path in sorted((folder / "rollouts").iterdir())]
    asked = [set(table["problem"]) for table in tables if table["problem"]]
    assert len(set.union(*asked)) <= 8
    assert tables[0]["token_ids"] != tables[1]["token_ids"]
    accuracy = [
        float(row["rollout/accuracy"]) for row in rows(folder / "metrics.csv") if row["rollout/accuracy"]
    ]
    assert accuracy[-1] > accuracy[0] + 0.3


def test_the_profiler_tells_where_the_time_went(run_of, caplog):
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        run_of("debug=profiler", *FEW, "rollout.problems_per_rollout=4", "evaluation.problems=4")
    assert "run_training_batch" in caplog.text
