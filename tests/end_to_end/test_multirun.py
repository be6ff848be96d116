"""Multirun and the learning-rate search: one process a run, failures survived, proposals checked."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import optuna
import pytest
from omegaconf import OmegaConf

from nft_lightning.common.text import quoted
from nft_lightning.search.trial import check_resolved, proposed, trial
from tests.processes import cli
from tests.test_house import ROOT

pytestmark = pytest.mark.slow

BRIEF = (
    "rollout.problems_per_rollout=4",
    "rollout.completions_per_problem=4",
    "evaluation.problems=4",
    "evaluation.completions_per_problem=2",
    "evaluation.every_epochs=1",
    "batching.updates_per_rollout=2",
    "trainer.max_epochs=1",
    "callbacks=none",
    "logger=csv",
)


def test_a_search_goes_on_where_it_stood(tmp_path):
    command = ("-m", "sweep=learning_rate", "algorithm=rft", *BRIEF, "pruner=none")
    for trials in (1, 2):
        more = (f"hydra.sweeper.n_trials={trials}", f"hydra.sweep.dir={tmp_path / f'run{trials - 1}'}")
        result = cli(*command, *more, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    study = optuna.load_study(study_name="rft_None", storage=f"sqlite:///{tmp_path}/sweeps.sqlite3")
    rates = [t.params["optimizer.learning_rate"] for t in study.trials]
    assert len(set(rates)) == 2
    assert all(1e-6 <= rate <= 1e-3 for rate in rates)
    for index, rate in enumerate(rates):
        folder = tmp_path / f"run{index}" / f"trial_{index:04d}"
        record = json.loads((folder / "trial.json").read_text())
        assert record["resolved"]["optimizer.learning_rate"] == rate
        assert OmegaConf.load(folder / "config.yaml").optimizer.learning_rate == rate
        summary = json.loads((folder / "summary.json").read_text())
        assert study.trials[index].value == record["objective"] == summary["after"]["eval/avg_at_2"]


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "ray"])
def test_a_failed_run_ends_nothing_but_itself(tmp_path, launcher):
    if launcher == "ray":
        pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    # The floor of 0 is refused; the run after it is made, and the command says that one failed.
    floors = "algorithm.negative_floor=0.0,0.5"
    more = (f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path}")
    if launcher == "joblib":
        # It waits for ever in a process that was forked from a server.
        command = [sys.executable, "-m", "nft_lightning.cli.train", "-m", floors, *more, *BRIEF]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
    else:
        result = cli("-m", floors, *more, *BRIEF, cwd=tmp_path)
    assert result.returncode == 1
    assert f"1 of 2 runs failed, see output.txt in {tmp_path / '0_nft_seed0'}" in result.stderr
    finished = {p.parent.name[0] for p in tmp_path.glob("*/summary.json")}
    assert finished == {"1"}
    assert "negative_floor" in (tmp_path / "0_nft_seed0" / "output.txt").read_text()


def test_a_failed_trial_is_nan(tmp_path):
    assert math.isnan(trial(["optimizer.learning_rate=0"], [], tmp_path / "run", tmp_path))


def test_a_value_that_was_not_used_is_fatal():
    config = OmegaConf.create({"optimizer": {"learning_rate": 2e-4}, "seed": 0})
    overrides = ["optimizer.learning_rate=1e-3", "algorithm=grpo", "seed=0"]
    assert proposed(overrides) == {"optimizer.learning_rate": 1e-3, "seed": 0}
    with pytest.raises(SystemExit, match=r"0\.001 was proposed, but the run used 0\.0002"):
        check_resolved(overrides, config, {"learning_rate": 2e-4})
    config.optimizer.learning_rate = 1e-3
    with pytest.raises(SystemExit, match="learning_rate"):
        check_resolved(overrides, config, {"learning_rate": 2e-4})
    used = check_resolved(overrides, config, {"learning_rate": 1e-3})
    assert used == {"optimizer.learning_rate": 1e-3, "seed": 0}
    with pytest.raises(SystemExit, match="seed"):
        check_resolved(["seed=1"], config, {"learning_rate": 1e-3})


def test_quoting():
    assert quoted("a=b,c") == "'a=b,c'"
    assert quoted("it's") == "'it\\'s'"


def test_the_committed_sweep_runs_and_does_nothing_twice(tmp_path):
    script = [sys.executable, str(ROOT / "sweeps" / "every_algorithm.py"), "--out", str(tmp_path)]
    script += ["--algorithms", "nsr", "--seeds", "0", "--trials", "1", *BRIEF]
    subprocess.run(script, check=True, capture_output=True, cwd=tmp_path, timeout=300)
    results = json.loads((tmp_path / "results.json").read_text())
    (run,) = results["nsr"]["runs"]
    assert run["learning_rate"] == results["nsr"]["learning_rate"]
    table = (tmp_path / "results.md").read_text()
    assert "| `nsr` |" in table
    before = sorted(str(p) for p in (tmp_path / "runs").rglob("*"))
    again = subprocess.run(script, check=True, capture_output=True, cwd=tmp_path, timeout=60)
    assert sorted(str(p) for p in (tmp_path / "runs").rglob("*")) == before
    assert again.stdout.decode() == table
