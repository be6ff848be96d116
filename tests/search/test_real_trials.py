"""Searches with real runs, a real database and several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState, create_trial

from tests.end_to_end.test_multirun import BRIEF
from tests.search import postgres

pytestmark = pytest.mark.slow
WITH_EVALUATIONS = [o for o in BRIEF if not o.startswith("callbacks")]


def nft_search(folder, *arguments):
    command = [sys.executable, "-m", "nft_lightning.cli.train", "-m", "sweep=learning_rate"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [*command, *WITH_EVALUATIONS, f"hydra.sweep.dir={folder}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=folder.parent,
    )


def test_a_lagging_run_is_ended_and_leaves_no_process(tmp_path):
    storage = f"sqlite:///{tmp_path}/sweeps.sqlite3"
    study = optuna.create_study(study_name="nft_None", storage=storage, direction="maximize")
    space = {"optimizer.learning_rate": optuna.distributions.FloatDistribution(1e-6, 1e-3, log=True)}
    rate = {"optimizer.learning_rate": 1e-4}
    steps = dict.fromkeys(range(40), 1.0)
    for _ in range(4):
        study.add_trial(
            create_trial(params=rate, distributions=space, value=1.0, intermediate_values=steps)
        )
    arguments = ["pruner=median", "trainer.max_epochs=40", "hydra.sweeper.n_trials=5"]
    process = nft_search(tmp_path / "out", *arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    last = optuna.load_study(study_name="nft_None", storage=storage).trials[-1]
    assert last.state == TrialState.PRUNED, output
    assert len(last.intermediate_values) < 40
    assert not (tmp_path / "out" / "trial_0004" / "summary.json").exists()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in running
    assert "1 pruned" in output


def test_hosts_share_a_study_in_postgresql(tmp_path):
    pytest.importorskip("psycopg")
    if postgres.programs() is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory() as folder, postgres.server(Path(folder) / "cluster") as address:
        arguments = [f"hydra.sweeper.storage='{address}'", "hydra.sweeper.n_trials=4"]
        arguments += ["pruner=none", "algorithm=rft"]
        processes = [nft_search(tmp_path / name, *arguments) for name in ("one", "two")]
        outputs = [p.communicate(timeout=400)[0] for p in processes]
        assert [p.returncode for p in processes] == [0, 0], outputs
        study = optuna.load_study(study_name="rft_None", storage=address)
        assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4
        assert len({t.user_attrs["process"] for t in study.trials}) == 2
        assert len({t.params["optimizer.learning_rate"] for t in study.trials}) == 4
        for trial in study.trials:
            config = OmegaConf.load(f"{trial.user_attrs['folder']}/config.yaml")
            assert config.optimizer.learning_rate == trial.params["optimizer.learning_rate"]
