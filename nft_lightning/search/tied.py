"""A study belongs to one search: to its conditions, its objectives and its space."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from nft_lightning.errors import UserError
from nft_lightning.records.saved_config import leaves, within

log = logging.getLogger(__name__)
SETTINGS = "settings"
# What may differ between two visits to a study: where runs are written and how they are watched.
MAY_DIFFER = ("run_dir", "resume", "resume_allow", "on_write_error", "logger", "callbacks", "hydra")
SHOWN = 3


def settings_of(
    config: DictConfig,
    fixed: Mapping[str, Any],
    space: Mapping[str, Any],
    objectives: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Return what the value of a trial depends on, besides the parameters that are searched.

    Args:
        config: what all trials have in common; fixed: values that are given in place of the config's.
        space: the distribution of each searched parameter.
        objectives, seeds: what a trial is judged by.
    """
    found = dict(leaves(OmegaConf.to_container(config, resolve=False)))
    found.update({name: str(value) for name, value in fixed.items()})
    found = {name: value for name, value in found.items() if not within(name, (*MAY_DIFFER, *space))}
    found |= {f"space of {name}": str(distribution) for name, distribution in space.items()}
    return {**found, "objectives": list(objectives), "seeds": list(seeds)}


def tie(study: optuna.Study, settings: dict[str, Any]) -> None:
    """Keep the settings in a study that has none; check them in one that has.

    Raises:
        UserError: the study holds the trials of another search.
    """
    before = study.user_attrs.get(SETTINGS)
    if before is None:
        if study.get_trials(deepcopy=False):
            told = "study %s has trials of unknown conditions: they count as this search's"
            log.warning(told, study.study_name)
        study.set_user_attr(SETTINGS, settings)
        return
    if before == settings:
        return
    raise UserError(
        "hydra.sweeper.study_name",
        study.study_name,
        f"holds the trials of another search ({', '.join(differences(before, settings))})",
        "give hydra.sweeper.study_name=ANOTHER, or hydra.sweeper.storage=sqlite:///ANOTHER.sqlite3",
    )


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the first keys that differ, with both values."""
    names = [n for n in sorted(before.keys() | now.keys()) if before.get(n) != now.get(n)]
    told = [f"{n} {before.get(n)!r} -> {now.get(n)!r}" for n in names[:SHOWN]]
    return [*told, f"{len(names) - SHOWN} more"] if len(names) > SHOWN else told
