"""The words of a command line, made ready for Hydra's grammar."""

from __future__ import annotations

import inspect
import os

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from nft_lightning.app.build import CONF_DIR, SHARED, options_of
from nft_lightning.common.text import quoted
from nft_lightning.errors import UserError
from nft_lightning.records.saved_config import within

AWAY = ("null", "None", "false", "False", "")
# Groups that a run does without, by the option that says so.
WITHOUT = {"logger": "none", "callbacks": "none"}
NEVER_NEEDED = ("experiment", "sweep", "pruner", "debug")
# Nodes whose keys are read one by one, so that a key which nobody knows is refused.
READ = (
    *("algorithm", "model", "problems.source", "problems.prompt", "verifier", "trainer", "logger"),
    *("rollout.engine", "rollout", "rollout.sync_check", "batching", "policy", "optimizer"),
    *("evaluation", "callbacks", "eval", "plan", "hydra"),
)


def ready(arguments: list[str]) -> list[str]:
    """Return the arguments as Hydra takes them.

    A group that is chosen away becomes the option that has nothing in it, and ``~/`` the home folder. A
    value that Hydra's grammar cannot read is quoted. ``trainer.KEY`` may be anything that
    ``lightning.Trainer`` takes.

    Raises:
        UserError: a group that cannot be left out is chosen away.
    """
    found = [quoted_value(with_home(without_group(a))) for a in arguments]
    return [f"++{a}" if sets_trainer_key(a) else a for a in found]


def without_group(argument: str) -> str:
    """Return ``GROUP=none`` for a group that is chosen away.

    Raises:
        UserError: the group is needed, or the file that its options share is chosen.
    """
    group, _, value = argument.removeprefix("~").partition("=")
    if value == SHARED and (CONF_DIR / group / f"{SHARED}.yaml").is_file():
        raise UserError(group, value, "is not an option", f"use one of {', '.join(options_of(group))}")
    chosen_away = argument.startswith("~") if "=" not in argument else value in AWAY
    if not chosen_away or group in NEVER_NEEDED or not (CONF_DIR / group).is_dir():
        return argument
    if group in WITHOUT:
        return f"{group}={WITHOUT[group]}"
    raise UserError(group, value, "cannot be left out", f"use one of {', '.join(options_of(group))}")


def with_home(argument: str) -> str:
    """Return the argument with a leading ``~/`` of its value expanded, quoted or not."""
    key, equals, value = argument.partition("=")
    mark = value[:1] if value[:1] in ("'", '"') else ""
    inside = value.removeprefix(mark)
    if not equals or not inside.startswith("~/"):
        return argument
    return f"{key}={mark}{os.path.expanduser('~/')}{inside.removeprefix('~/')}"


def quoted_value(argument: str) -> str:
    """Return the argument with its value in quotes where Hydra's grammar cannot read it otherwise."""
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals or readable(argument):
        return argument
    made = f"{key}={quoted(value)}"
    return made if readable(made) else argument


def readable(argument: str) -> bool:
    """Return whether Hydra's grammar reads the argument."""
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def sets_trainer_key(argument: str) -> bool:
    """Return whether the argument sets a key of ``lightning.Trainer``, without a ``+`` before it."""
    if not argument.startswith("trainer.") or "=" not in argument:
        return False
    return argument.partition("=")[0].split(".")[1] in trainer_keys()


def trainer_keys() -> list[str]:
    """Return what ``lightning.Trainer`` takes."""
    from lightning import Trainer

    return list(inspect.signature(Trainer).parameters)


def check_added(arguments: list[str], names: list[str]) -> None:
    """Raise UserError for a key that ``+`` adds where nobody reads it.

    Args:
        arguments: the command's. names: every key of the config without them.
    """
    for argument in arguments:
        key, equals, value = argument.lstrip("+").partition("=")
        plain = argument.startswith("+") and equals and not {"/", "@"} & set(key)
        if plain and key not in names and not within(key, READ) and not (CONF_DIR / key).is_dir():
            raise UserError(key, value, "is a key that nobody reads", "leave it out, or see --help")
