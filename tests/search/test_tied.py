"""A study is one search's: another's is refused with the difference, before anything runs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import optuna
import pytest
from omegaconf import OmegaConf

from nft_lightning.errors import UserError
from nft_lightning.search import failed
from nft_lightning.search.tied import settings_of, tie
from tests.processes import cli

SPACE = {"optimizer.learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-3, log=True)}


def config(**more):
    made = {"optimizer": {"learning_rate": 1e-4, "beta1": 0.9}, "seed": 0, "run_dir": "here"}
    return OmegaConf.create({**made, **more})


def settings(cfg=None, fixed=(), space=SPACE, objectives=("accuracy",), seeds=()):
    return settings_of(cfg or config(), dict(fixed), space, objectives, seeds)


@pytest.fixture
def study():
    made = optuna.create_study(study_name="mine")
    tie(made, settings())
    made.add_trial(
        optuna.trial.create_trial(params={"optimizer.learning_rate": 1e-4}, distributions=SPACE, value=1)
    )
    return made


def test_the_same_search_continues(study):
    tie(study, settings())
    tie(study, settings(config(run_dir="there", logger={"csv": None})))
    tie(study, settings(config(optimizer={"learning_rate": 9.0, "beta1": 0.9})))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"cfg": config(seed=1)}, "seed 0 -> 1"),
        ({"cfg": config(model={"path": "x"})}, "model.path None -> 'x'"),
        ({"fixed": {"optimizer.beta1": "0.5"}}, "optimizer.beta1 0.9 -> '0.5'"),
        ({"objectives": ["accuracy", "tokens"]}, "objectives"),
        ({"seeds": [1, 2]}, "seeds"),
        ({"space": {}}, "optimizer.learning_rate None -> 0.0001"),
        (
            {"space": {"optimizer.learning_rate": optuna.distributions.FloatDistribution(1e-6, 1e-3)}},
            "space of optimizer.learning_rate",
        ),
    ],
)
def test_another_search_is_refused_with_the_difference(study, other, said):
    with pytest.raises(UserError, match=r"give hydra\.sweeper\.study_name=ANOTHER") as caught:
        tie(study, settings(**other))
    assert said in str(caught.value)


def test_trials_of_unknown_conditions_are_told(caplog):
    by_hand = optuna.create_study()
    by_hand.add_trial(optuna.trial.create_trial(value=1.0))
    tie(by_hand, settings())
    assert "trials of unknown conditions" in caplog.text
    with pytest.raises(UserError, match="seed 0 -> 1"):
        tie(by_hand, settings(config(seed=1)))


def test_runs_are_counted_wherever_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(failed, "ended", [])
    monkeypatch.setattr(failed, "failed", [])
    node = SimpleNamespace(sweep=None, sweeper={"_target_": "basic"})
    made = SimpleNamespace(hydra=node)
    made.hydra.sweep = SimpleNamespace(dir=tmp_path / "multirun")
    failed.note(tmp_path / "multirun", tmp_path / "earlier", finished=False)
    callback = failed.FailedRuns()
    callback.on_multirun_start(made)
    # Both in one folder that is not below the multirun's: the second was refused.
    failed.note(tmp_path / "multirun", tmp_path / "x", finished=True)
    failed.note(tmp_path / "multirun", tmp_path / "x", finished=False)
    callback.on_multirun_end(made)
    assert (len(failed.ended), failed.failed) == (2, [tmp_path / "x"])
    lines = (tmp_path / "multirun" / failed.RUNS).read_text().splitlines()
    assert json.loads(lines[-1]) == {"folder": str(tmp_path / "x"), "finished": False}


@pytest.mark.slow
def test_a_space_that_nothing_can_be_drawn_from_is_one_sentence(tmp_path):
    space = 'hydra.sweeper.params={optimizer.learning_rate:"tag(log, interval(0, 1e-3))"}'
    storage = f"hydra.sweeper.storage=sqlite:///{tmp_path}/s.sqlite3"
    result = cli("-m", "sweep=learning_rate", "pruner=none", storage, space)
    assert result.returncode == 2
    assert "is no space to search" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
