"""The loop of a search: ask, run, watch, tell."""

from __future__ import annotations

import functools
import logging
import math
import os
import shlex
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import optuna
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import OmegaConf
from optuna.trial import Trial, TrialState

from nft_lightning.compare.runs import read_evaluation
from nft_lightning.errors import UserError, first_line
from nft_lightning.search.storage import close_abandoned, storage_of
from nft_lightning.search.tied import settings_of, tie
from nft_lightning.search.trial import NOT_PASSED_ON, Outcome, final_accuracy, run_apart
from nft_lightning.stats.intervals import over_seeds

log = logging.getLogger(__name__)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "accuracy": "maximize",
    "tokens": "minimize",
    "seconds": "minimize",
}


class Grid(optuna.samplers.GridSampler):
    """Every combination, which the number of trials ends: a study that is asked cannot be stopped."""

    def after_trial(self, *_: Any) -> None:
        """Do nothing, where the class above would stop the study."""


class StudySweeperImpl(OptunaSweeperImpl):
    """See :class:`nft_lightning.search.sweeper.StudySweeper`."""

    config: Any  # the official class has None here until its ``setup``

    def __init__(
        self, official: OptunaSweeperImpl, pruner: Any, objectives: list[str], seeds: list[int]
    ) -> None:
        self.__dict__.update(official.__dict__)
        self.pruner, self.objectives, self.seeds = pruner, objectives, seeds
        self.lock = threading.Lock()
        self.alone, self.asked = True, 0

    def sweep(self, arguments: list[str]) -> None:
        """Until the study holds ``n_trials`` ended trials."""
        check_objectives(self.objectives, self.pruner)
        if self.pruner is not None and not (self.config.get("callbacks") or {}).get("evaluations"):
            raise UserError(
                "hydra.sweeper.pruner",
                type(self.pruner).__name__,
                "reads the evaluations that callbacks.evaluations writes, which is off",
                "use callbacks=default, or pruner=none",
            )
        space, fixed, deletions = self.parameters(arguments)
        searched = {n: d for n, d in space.items() if n not in fixed}
        if isinstance(self.sampler, functools.partial):
            self.lay_out_grid(searched)
        study = self.open_study()
        tie(study, settings_of(self.config, fixed, searched, self.objectives, self.seeds))
        close_abandoned(study)
        left = self.n_trials - len(study.get_trials(deepcopy=False, states=ENDED))
        log.info("study %s: %d trials to go", study.study_name, max(0, left))
        with ThreadPoolExecutor(self.n_jobs) as pool:
            for done in [pool.submit(self.one, study, searched, fixed, deletions) for _ in range(left)]:
                done.result()
        self.finish(study, fixed, deletions)

    def parameters(self, arguments: list[str]) -> tuple[dict[str, Any], dict[str, Any], Sequence[str]]:
        """Return the space, the parameters that are fixed, and those that are taken out of the config.

        Raises:
            UserError: a space that nothing can be drawn from.
        """
        given = [*self._parse_sweeper_params_config(), *arguments]
        try:
            self._process_searchspace_config()
            found: tuple[dict[str, Any], dict[str, Any], Sequence[str]]
            found = create_params_from_overrides(given)
        except ValueError as error:
            reason = first_line(error)
            raise UserError(
                "hydra.sweeper.params",
                [a for a in given if "(" in a],
                f"is no space to search ({reason})",
                "give bounds in order, and above 0 with a logarithm: tag(log, interval(1e-5, 1e-3))",
            ) from error
        return found

    def lay_out_grid(self, searched: dict[str, Any]) -> None:
        """Give the grid its values, and the study as many trials as there are combinations.

        Raises:
            UserError: a parameter is not searched in a list of values.
        """
        try:
            values = {name: self._to_grid_sampler_choices(space) for name, space in searched.items()}
        except ValueError as error:
            raise UserError(
                "hydra.sweeper.params",
                {name: str(space) for name, space in searched.items()},
                "has no end of values, and a grid takes every one",
                "use choice(...) or range(...), or hydra/sweeper/sampler=tpe",
            ) from error
        self.sampler = Grid(values, self.sampler.keywords.get("seed"))
        self.n_trials = min(self.n_trials, math.prod(len(found) for found in values.values()))

    def open_study(self) -> optuna.Study:
        """Return the study, new or as it is; a sampler that continues draws other numbers than
        before.
        """
        study = optuna.create_study(
            study_name=self.study_name,
            storage=storage_of(self.storage),
            sampler=self.sampler,
            pruner=self.pruner or optuna.pruners.NopPruner(),
            directions=[DIRECTIONS[o] for o in self.objectives],
            load_if_exists=True,
        )
        self.alone = not study.get_trials(deepcopy=False)
        if not self.alone:
            study.sampler.reseed_rng()
        return study

    def one(
        self,
        study: optuna.Study,
        space: dict[str, Any],
        fixed: dict[str, Any],
        deletions: Sequence[str],
    ) -> None:
        """One trial, unless others have filled the study meanwhile."""
        with self.lock:
            taken = study.get_trials(deepcopy=False, states=(*ENDED, TrialState.RUNNING))
            if len(taken) >= self.n_trials:
                return
            trial = study.ask()
            if self.alone and trial.number != self.asked:
                # Another process began with the same seed, and would draw the same values.
                study.sampler.reseed_rng()
                self.alone = False
            self.asked += 1
            trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
            (overrides,) = self._configure_trials([trial], space, fixed, list(deletions))
        folder = Path(str(self.sweep_dir)) / f"trial_{trial.number:04d}"
        trial.set_user_attr("folder", str(folder))
        state: TrialState = TrialState.FAIL
        values: list[float] | None = None
        try:
            outcomes = self.run_seeds(trial, list(overrides), folder)
            if outcomes[-1].pruned:
                state = TrialState.PRUNED
            elif outcomes[-1].error:
                trial.set_user_attr("error", outcomes[-1].error)
            else:
                summaries = [o.summary for o in outcomes if o.summary]
                values = [objective(name, summaries) for name in self.objectives]
                state = TrialState.COMPLETE
        finally:
            with self.lock:
                study.tell(trial, values, state=state)
        shown = ", ".join(f"{n}={v:.4g}" for n, v in zip(self.objectives, values or [], strict=False))
        log.info("trial %d %s: %s %s", trial.number, state.name.lower(), trial.params, shown)

    def run_seeds(self, trial: Trial, overrides: list[str], folder: Path) -> list[Outcome]:
        """Return the trial's runs, one seed after another, until one fails or is pruned."""
        search_path = [o for o in self.config.hydra.overrides.hydra if "hydra.searchpath" in o]
        outcomes = []
        for index, seed in enumerate(self.seeds or [None]):
            own = [o for o in overrides if seed is None or not o.startswith("seed=")]
            own += [] if seed is None else [f"seed={seed}"]
            place = folder if seed is None else folder / f"seed_{seed}"
            watch = None if self.pruner is None else self.watcher(trial, index)
            outcomes.append(run_apart(own, search_path, place, watch))
            if outcomes[-1].summary is None:
                break
        return outcomes

    def watcher(self, trial: Trial, index: int) -> Callable[[Path], bool]:
        """Reports each new evaluation of seed number ``index``; true once the trial is to be pruned.

        Steps continue from seed to seed, so that a trial is compared with others at the same seed.
        """
        seen: set[str] = set()
        per_seed = 1 + int(self.config.trainer.max_epochs) // int(self.config.evaluation.every_epochs)

        def stop(folder: Path) -> bool:
            for path in sorted((folder / "evaluations").glob("update_*.parquet")):
                if path.name in seen:
                    continue
                seen.add(path.name)
                if len(seen) > 1:  # the first is of the policy that all trials start from
                    value = float(read_evaluation([path]).accuracy.mean())
                    trial.report(value, index * per_seed + len(seen) - 2)
                    if trial.should_prune():
                        return True
            return False

        return stop

    def finish(self, study: optuna.Study, fixed: dict[str, Any], deletions: Sequence[str]) -> None:
        """Say what was best and how to run it again; SystemExit where too many trials failed."""
        states = [t.state for t in study.get_trials(deepcopy=False, states=ENDED)]
        failed, pruned = states.count(TrialState.FAIL), states.count(TrialState.PRUNED)
        log.info("%d trials, %d pruned, %d failed", len(states), pruned, failed)
        given = [f"{k}={v}" for k, v in fixed.items() if k not in NOT_PASSED_ON] + list(deletions)
        best: list[Any] = []
        if TrialState.COMPLETE in states:
            best = study.best_trials if len(self.objectives) > 1 else [study.best_trial]
        found: list[dict[str, Any]] = []
        for trial in best:
            chosen = [f"{k}={v}" for k, v in trial.params.items()]
            command = shlex.join(["nft-train", *given, *chosen])
            found.append({"params": trial.params, "values": trial.values, "command": command})
            results = ", ".join(f"{v:.4g}" for v in trial.values)
            log.info("best (%s = %s), again with:\n  %s", ", ".join(self.objectives), results, command)
        folder = Path(str(self.sweep_dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(
            OmegaConf.create({"study": study.study_name, "objectives": self.objectives, "best": found}),
            folder / "optimization_results.yaml",
        )
        if (states and failed > self.max_failure_rate * len(states)) or failed == len(states) > 0:
            raise SystemExit(
                f"error: {failed} of {len(states)} trials failed, see output.txt in {folder}."
            )


def check_objectives(objectives: Sequence[str], pruner: Any) -> None:
    """Raise UserError for objectives that do not exist, or that a pruner cannot serve."""
    for name in objectives:
        if name not in DIRECTIONS:
            raise UserError(
                "hydra.sweeper.objectives", name, "is not known", f"use some of {', '.join(DIRECTIONS)}"
            )
    if pruner is not None and list(objectives) != ["accuracy"]:
        raise UserError(
            "hydra.sweeper.objectives",
            list(objectives),
            "cannot be pruned: a pruner knows only the accuracy",
            "set pruner=none",
        )


def objective(name: str, summaries: Sequence[dict[str, Any]]) -> float:
    """Return a trial's value; of several seeds the accuracy is the lower end of the mean's 95 %
    interval.
    """
    if name == "accuracy":
        values = [final_accuracy(s) for s in summaries]
        return values[0] if len(values) == 1 else over_seeds(values).low
    key = {"tokens": "tokens", "seconds": "training_seconds"}[name]
    return sum(float(s[key]) for s in summaries) / len(summaries)
