"""The words of a command line, made ready for Hydra's grammar."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from nft_lightning.app.build import CONF_DIR, options_of
from nft_lightning.app.earlier import check_renamed_option, new_name, renamed
from nft_lightning.app.trainer_keys import trainer_keys
from nft_lightning.cli.owners import of_a_group
from nft_lightning.common.text import key_of, quoted, suggestion
from nft_lightning.errors import UserError
from nft_lightning.records.saved_config import within

# Keys whose value is a name, be it made of digits.
TEXTS = ("run_dir", "resume", "out", "run", "checkpoint")
# Nodes whose keys others read: variables of a chat template, options of a generator.
FREE = re.compile(r"\.(chat_kwargs|source\.options)(\.|$)")
KEY = re.compile(r"/?[\w-]+([./][\w-]+)*(@[\w.:]*)?")
# Options of Hydra's that add folders with configs.
CONFIG_OPTIONS = ("--config-dir", "-cd", "--config-path", "-cp")
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
    ``lightning.Trainer`` takes, and nodes such as ``chat_kwargs`` may have any key.

    Raises:
        UserError: a group that cannot be left out is chosen away.
    """
    found = [quoted_value(with_home(without_group(a))) for a in arguments]
    return [f"++{a}" if sets_trainer_key(a) or sets_free_key(a) else a for a in found]


def without_group(argument: str) -> str:
    """Return ``GROUP=none`` for a group that is chosen away; raise UserError where one is needed."""
    group, value = group_of(argument), argument.partition("=")[2]
    chosen_away = argument.startswith("~") if "=" not in argument else value.strip("'\"") in AWAY
    if not group or not chosen_away:
        return argument
    if group in NEVER_NEEDED:
        return f"~{group}"
    if group in WITHOUT:
        return f"{group}={WITHOUT[group]}"
    raise UserError(
        group, value or None, "cannot be left out", f"use one of {', '.join(options_of(group))}"
    )


def is_word(argument: str) -> bool:
    """Return whether the argument is about the config, and none of Hydra's options."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def group_of(argument: str) -> str:
    """Return the config group that an argument chooses from; empty where it chooses from none."""
    group = key_of(argument).partition("@")[0].strip("/")
    return group if group and (CONF_DIR / group).is_dir() else ""


def with_home(argument: str) -> str:
    """Return the argument with a leading ``~/`` of its value expanded, quoted or not."""
    key, equals, value = argument.partition("=")
    mark = value[:1] if value[:1] in ("'", '"') else ""
    inside = value.removeprefix(mark)
    if not equals or not inside.startswith("~/"):
        return argument
    return f"{key}={mark}{os.path.expanduser('~/')}{inside.removeprefix('~/')}"


def quoted_value(argument: str) -> str:
    """Return the argument with its value in quotes where Hydra's grammar cannot read it as meant."""
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals:
        return argument
    if readable(argument) and not (key in TEXTS and isinstance(understood(argument), int | float)):
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


def sets_free_key(argument: str) -> bool:
    """Return whether the argument sets a node that may have any key, or a key in it, without a ``+``."""
    key, equals, _ = argument.partition("=")
    return bool(equals) and not argument.startswith(("+", "~", "-")) and bool(FREE.search(key))


def check_words(config_name: str, arguments: list[str]) -> None:
    """Raise UserError for an argument that is no ``key=value``, or chooses what a group does not have.

    Options may be elsewhere too, where ``hydra.searchpath`` or an option of Hydra's says so.
    """
    plain = not any(argument.startswith("-") for argument in arguments)
    many = bool({"-m", "--multirun"} & set(arguments))
    elsewhere = any("hydra.searchpath" in a or a in CONFIG_OPTIONS for a in arguments)
    for argument in arguments if plain else filter(is_word, arguments):
        key, equals, value = argument.lstrip("+").partition("=")
        named, group = key.removeprefix("~"), group_of(argument)
        if not KEY.fullmatch(named) or not (equals or argument.startswith("~")):
            raise UserError("argument", argument, "is not of the form key=value", "see --help")
        if new_name(named) is not None:
            raise renamed(named, value)
        if group and group.partition("/")[0] not in groups_of(config_name):
            raise UserError(group, value, "is no choice of this command", "leave it out")
        if group and equals and not elsewhere:
            check_choice(group, argument, many)


def groups_of(config_name: str) -> set[str]:
    """Return the config groups that a command chooses from."""
    found = set()
    for entry in OmegaConf.load(CONF_DIR / f"{config_name}.yaml").defaults:
        if not isinstance(entry, str):
            found.add(str(next(iter(entry))))
        elif entry != "_self_":
            found |= groups_of(entry)
    return found


def check_choice(group: str, argument: str, many: bool) -> None:
    """Raise UserError where ``argument`` gives ``group`` a value that is not one of its options.

    Several options may be given where there are ``many`` runs.
    """
    given, value = understood(argument), argument.partition("=")[2]
    if many and isinstance(given, Glob):
        return
    listed = given.list if isinstance(given, ChoiceSweep) else given
    for one in listed if isinstance(listed, list) else [listed]:
        shown = one.text if isinstance(one, QuotedString) else one
        check_renamed_option(group, str(shown))
        left_out = shown is None and group in NEVER_NEEDED
        if not left_out and str(shown) not in options_of(group):
            raise UserError(
                group,
                shown if isinstance(shown, str) else value,
                "is not an option",
                suggestion(str(shown), options_of(group), cutoff=0.6),
            )
    if isinstance(given, ChoiceSweep) and not many:
        raise UserError(group, value, "is several options", "add -m to try each, or choose one")


def understood(argument: str) -> Any:
    """Return the value that Hydra's grammar reads in an argument; its text where it reads none."""
    if not readable(argument):
        return argument.partition("=")[2]
    return OverridesParser.create().parse_override(argument).value()


def first_of(argument: str) -> str:
    """Return the argument with the first of the values that it gives to many runs."""
    key, given = argument.partition("=")[0], understood(argument)
    if isinstance(given, RangeSweep):
        return f"{key}={given.start}"
    if isinstance(given, ChoiceSweep):
        first = given.list[0]
        return f"{key}={first.with_quotes() if isinstance(first, QuotedString) else first}"
    return argument


def check_added(arguments: list[str], names: Callable[[], list[str]]) -> None:
    """Raise UserError for a key that ``+`` adds where nobody reads it.

    Args:
        arguments: the command's. names: gives every key of the config without them.
    """
    for argument in arguments:
        key, equals, value = argument.lstrip("+").partition("=")
        plain = argument.startswith("+") and equals and not {"/", "@"} & set(key)
        if not plain or within(key, READ) or (CONF_DIR / key).is_dir():
            continue
        if key not in (known := names()):
            remedy = of_a_group(key, known) or "leave it out, or see --help"
            raise UserError(key, value, "is a key that nobody reads", remedy)
