"""``hydra/sweeper: study``, the official Optuna sweeper with what training runs need beside it.

Heavy imports wait until a search begins, since Hydra looks at this module at every start.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper.config import SamplerConfig
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
from omegaconf import MISSING

from nft_lightning.errors import UserError


@dataclass
class StudySweeperConf:
    """The settings; see :class:`StudySweeper`."""

    _target_: str = "nft_lightning.search.sweeper.StudySweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}])
    sampler: SamplerConfig = MISSING
    pruner: Any = None
    objectives: list[str] = field(default_factory=lambda: ["accuracy"])
    seeds: list[int] | None = None
    storage: str | None = None
    study_name: str | None = None
    n_trials: int = 20
    n_jobs: int = 1
    max_failure_rate: float = 1.0
    params: dict[str, str] | None = None
    custom_search_space: str | None = None


class StudySweeper(OptunaSweeper):
    """An Optuna study whose trials are runs in processes of their own.

    Beyond the official sweeper: trials start as soon as one of ``n_jobs`` places is free; a pruner
    sees every evaluation of a run and may end it; a trial may be several seeds, judged by the lower
    end of the 95 % interval of their mean; several objectives; several hosts share a study, and an
    interrupted one continues until it holds ``n_trials``; failures are recorded and end nothing.

    Args:
        sampler, study_name, params, custom_search_space: as the official sweeper takes them.
        pruner: a node with ``_target_: optuna.pruners...``, or None.
        objectives: of ``accuracy`` (maximised), ``tokens`` and ``seconds`` (minimised).
        seeds: the seeds of a trial; None is the one seed of the run.
        storage: an address of SQLAlchemy (SQLite, PostgreSQL), or ``journal:FILE``.
        n_trials: ended trials that the study shall hold, those of before and of others included.
        n_jobs: trials at a time in this process.
        max_failure_rate: a larger share of failed trials makes the command fail at its end.
    """

    def __init__(self, pruner: Any, objectives: list[str], seeds: list[int] | None, **official: Any):
        from nft_lightning.search.study import StudySweeperImpl

        super().__init__(direction="maximize", **official)
        self.sweeper = StudySweeperImpl(
            self.sweeper,
            pruner and instantiate(pruner, _execution_whitelist_=("optuna.pruners.*",)),
            list(objectives),
            list(seeds) if seeds else [],
        )

    def sweep(self, arguments: list[str]) -> None:
        """The search. Hydra would show a traceback for bad input, so it ends here, in one sentence."""
        try:
            self.sweeper.sweep(arguments)
        except UserError as error:
            sys.stderr.write(f"error: {error}\n")
            sys.exit(2)


def register() -> None:
    """Make ``hydra/sweeper=study`` known to Hydra."""
    ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf)
    Plugins.instance().register(StudySweeper)
