from __future__ import annotations

import os
import socket
import subprocess
import sys

import optuna
import pytest
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
from omegaconf import OmegaConf
from optuna.trial import TrialState, create_trial

from nft_lightning.errors import UserError
from nft_lightning.search import study as module
from nft_lightning.search.storage import alive
from nft_lightning.search.study import StudySweeperImpl
from nft_lightning.search.trial import Outcome
from nft_lightning.stats.intervals import over_seeds
from tests.compare.made_runs import make_run

SPACE = {"x": "interval(0.0, 1.0)"}


def summary(accuracy, tokens=100, seconds=5.0):
    return {"after": {"eval/avg_at_8": accuracy}, "tokens": tokens, "training_seconds": seconds}


def search(tmp_path, run, monkeypatch, *, arguments=("algorithm=nft",), storage=None, **options):
    """Run a study whose trials are calls of ``run(overrides, folder, stop)``; returns the study."""
    given = {"n_trials": 4, "n_jobs": 1, "pruner": None, "objectives": ["accuracy"], "seeds": []}
    given |= options
    storage = storage or f"sqlite:///{tmp_path}/study.sqlite3"
    official = OptunaSweeper(
        given.get("sampler", {"_target_": "optuna.samplers.TPESampler", "seed": 0}),
        "maximize",
        storage,
        "s",
        given["n_trials"],
        given["n_jobs"],
        given.get("max_failure_rate", 1.0),
        None,
        OmegaConf.create(given.get("space", SPACE)),
    )
    sweeper = StudySweeperImpl(official.sweeper, given["pruner"], given["objectives"], given["seeds"])
    sweeper.config = OmegaConf.create(
        {
            "hydra": {"overrides": {"hydra": []}},
            "trainer": {"max_epochs": 4},
            "evaluation": {"every_epochs": 1},
            "callbacks": {"evaluations": given.get("evaluations", "on")},
        }
    )
    sweeper.sweep_dir = str(tmp_path / "sweep")
    monkeypatch.setattr(module, "run_apart", lambda o, _, folder, stop: run(o, folder, stop))
    sweeper.sweep(list(arguments))
    return optuna.load_study(study_name="s", storage=module.storage_of(storage))


def value_of(overrides):
    return float(next(o for o in overrides if o.startswith("x=")).partition("=")[2])


def good(overrides, folder, stop):
    return Outcome(summary(value_of(overrides)))


def test_trials_are_run_recorded_and_the_best_can_be_repeated(tmp_path, monkeypatch):
    study = search(tmp_path, good, monkeypatch)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4
    assert all(t.value == t.params["x"] for t in study.trials)
    assert len({t.params["x"] for t in study.trials}) == 4
    results = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    (best,) = results.best
    assert best.command == f"nft-train algorithm=nft x={study.best_params['x']}"


def test_a_study_goes_on_until_it_is_full_and_proposes_other_values(tmp_path, monkeypatch):
    search(tmp_path, good, monkeypatch, n_trials=2)
    study = search(tmp_path, good, monkeypatch, n_trials=5)
    assert len(study.trials) == len({t.params["x"] for t in study.trials}) == 5
    assert len(search(tmp_path, good, monkeypatch, n_trials=3).trials) == 5


def test_a_grid_runs_every_combination_once(tmp_path, monkeypatch):
    """As ``sweep=nft`` composes it: the sampler waits for the values, and ends with the last one."""
    grid = {"_target_": "optuna.samplers.GridSampler", "_partial_": True, "seed": 0}
    space = {"x": "choice(0.1, 0.5)", "y": "range(1, 4)", "z": "choice(one, two)"}
    options = {"sampler": grid, "space": space, "n_trials": 48}
    study = search(tmp_path, good, monkeypatch, arguments=("algorithm=nft", "z=one"), **options)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 6
    drawn = {(t.params["x"], t.params["y"]) for t in study.trials}
    assert drawn == {(x, y) for x in (0.1, 0.5) for y in (1, 2, 3)}
    again = search(tmp_path, good, monkeypatch, arguments=("algorithm=nft", "z=one"), **options)
    assert len(again.trials) == 6


def test_a_grid_of_what_has_no_end_is_one_sentence(tmp_path, monkeypatch):
    grid = {"_target_": "optuna.samplers.GridSampler", "_partial_": True, "seed": 0}
    with pytest.raises(UserError, match="a grid takes every one: use choice"):
        search(tmp_path, good, monkeypatch, sampler=grid)


def test_failures_are_recorded_and_end_nothing(tmp_path, monkeypatch):
    def some(overrides, folder, stop):
        if folder.name in ("trial_0001", "trial_0002"):
            return Outcome(error="code -9: Killed")
        return good(overrides, folder, stop)

    study = search(tmp_path, some, monkeypatch)
    states = [t.state.name for t in study.trials]
    assert states == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert study.trials[1].user_attrs["error"] == "code -9: Killed"
    with pytest.raises(SystemExit, match="2 of 4 trials failed"):
        search(tmp_path, some, monkeypatch, max_failure_rate=0.25)


def test_a_search_in_which_all_fails_fails(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="2 of 2 trials failed"):
        search(tmp_path, lambda *_: Outcome(error="code 2: no"), monkeypatch, n_trials=2)


def test_a_trial_of_several_seeds_is_judged_by_the_lower_end(tmp_path, monkeypatch):
    def by_seed(overrides, folder, stop):
        seed = int(next(o for o in overrides if o.startswith("seed=")).partition("=")[2])
        assert folder.name == f"seed_{seed}"
        return Outcome(summary(0.5 + 0.1 * seed))

    study = search(tmp_path, by_seed, monkeypatch, n_trials=1, seeds=[0, 1, 2])
    assert study.trials[0].value == pytest.approx(over_seeds([0.5, 0.6, 0.7]).low)


def test_several_objectives_have_a_front(tmp_path, monkeypatch):
    def costly(overrides, folder, stop):
        x = value_of(overrides)
        return Outcome(summary(x, tokens=1000 * x))

    study = search(tmp_path, costly, monkeypatch, objectives=["accuracy", "tokens"])
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(t.values == [t.params["x"], 1000 * t.params["x"]] for t in study.trials)
    results = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    assert len(results.best) == 4


def test_a_run_that_lags_behind_is_pruned(tmp_path, monkeypatch):
    storage = f"sqlite:///{tmp_path}/study.sqlite3"
    earlier = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    for _ in range(3):
        steps = {0: 0.8, 1: 0.9}
        earlier.add_trial(
            create_trial(params={"x": 0.5}, distributions=space, value=0.9, intermediate_values=steps)
        )

    def weak(overrides, folder, stop):
        make_run(folder, rise=0.01)
        assert stop(folder)
        return Outcome(pruned=True)

    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1)
    study = search(tmp_path, weak, monkeypatch, pruner=pruner)
    assert study.trials[3].state == TrialState.PRUNED
    # The evaluation of the common start is not a step, and the first step is the warm-up's.
    assert list(study.trials[3].intermediate_values) == [0, 1]


def test_places_are_filled_as_they_become_free(tmp_path, monkeypatch):
    import threading

    slow = threading.Event()

    def one_is_slow(overrides, folder, stop):
        if folder.name == "trial_0000":
            assert slow.wait(30), "the others waited for the slow trial"
        if folder.name == "trial_0003":
            slow.set()
        return good(overrides, folder, stop)

    study = search(tmp_path, one_is_slow, monkeypatch, n_jobs=2)
    assert len(study.trials) == 4


def test_two_processes_that_begin_together_draw_different_values(tmp_path, monkeypatch):
    """The other process asks for its first trial between this one's look at the study and its own."""
    ask = optuna.Study.ask
    drawn_by_the_other = []

    def ask_just_after_the_other(study, *given, **options):
        if not drawn_by_the_other:
            other = optuna.load_study(
                study_name="s", storage=study._storage, sampler=optuna.samplers.TPESampler(seed=0)
            )
            trial = ask(other)
            drawn_by_the_other.append(trial.suggest_float("x", 0.0, 1.0))
            other.tell(trial, 0.0)
        return ask(study, *given, **options)

    monkeypatch.setattr(optuna.Study, "ask", ask_just_after_the_other)
    study = search(tmp_path, good, monkeypatch)
    values = {t.params["x"] for t in study.trials}
    assert len(values) == len(study.trials) >= 4


def test_what_a_dead_process_left_behind_counts_as_failed(tmp_path, monkeypatch):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    storage = f"sqlite:///{tmp_path}/study.sqlite3"
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    for owner in (f"{socket.gethostname()}:{int(gone.stdout)}", "another-host:1"):
        study.ask().set_user_attr("process", owner)
    study = search(tmp_path, good, monkeypatch)
    states = [t.state.name for t in study.trials]
    # The other host's trial still runs, and takes one of the four places.
    assert states == ["FAIL", "RUNNING", "COMPLETE", "COMPLETE"]


def test_a_journal_is_a_storage(tmp_path, monkeypatch):
    storage = f"journal:{tmp_path}/journal.log"
    assert len(search(tmp_path, good, monkeypatch, storage=storage).trials) == 4
    assert len(search(tmp_path, good, monkeypatch, storage=storage, n_trials=6).trials) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"storage": "sqlite:////nowhere/at/all.sqlite3"}, "hydra.sweeper.storage='sqlite:////nowhere"),
        (
            {"storage": "journal:/nowhere/at/all.log"},
            "storage='journal:/nowhere/at/all.log' cannot",
        ),
        ({"storage": "postgres-typo://me:secret@x"}, "'postgres-typo://me:***@x' cannot be used"),
        ({"objectives": ["speed"]}, "'speed' is not known: use some of accuracy, tokens, seconds"),
        ({"objectives": ["tokens"], "pruner": optuna.pruners.MedianPruner()}, "cannot be pruned"),
        ({"evaluations": None, "pruner": optuna.pruners.MedianPruner()}, "which is off"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path, monkeypatch, options, message):
    with pytest.raises(UserError) as caught:
        search(tmp_path, good, monkeypatch, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sweep").exists()


def test_the_owner_of_a_trial():
    assert alive(os.getpid())
    assert not alive(2**22 + 12345)
