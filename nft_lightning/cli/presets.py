"""``experiment=PRESET`` with another option of a group: what the preset sets for its own option goes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nft_lightning.app.build import CONF_DIR, target
from nft_lightning.cli.owners import holds_keys
from nft_lightning.cli.words import group_of, is_word, understood
from nft_lightning.common.text import key_of

SETS_OTHERS = ("experiment", "sweep", "pruner", "debug")
# What these take is not decided by the option.
FREE = ("trainer", "logger", "callbacks")


def without_strays(config_name: str, arguments: list[str]) -> list[str]:
    """Return the arguments with ``~KEY`` for each key that a preset sets and the chosen option lacks.

    A key that is typed stays, and is refused later. Each key that is left out is named on stderr.
    """
    words = [argument for argument in arguments if is_word(argument)]
    chosen = {group_of(w): understood(w) for w in words if group_of(w) and "=" in w}
    preset = chosen.get("experiment")
    groups = [g for g in chosen if g not in (*SETS_OTHERS, *FREE) and isinstance(chosen[g], str)]
    if preset is None or not groups or {"-m", "--multirun"} & set(arguments):
        return arguments
    typed = [key_of(word) for word in words]
    found = list(arguments)
    for group in groups:
        for key in strays(config_name, words, group, str(chosen[group])):
            if key not in typed:
                found.append(f"~{key}")
                option = f"{group}={chosen[group]}"
                sys.stderr.write(f"experiment={preset} sets {key}, which {option} lacks: left out.\n")
    return found


def strays(config_name: str, words: list[str], group: str, option: str) -> list[str]:
    """Return the keys below a group that neither its option's file nor its class knows."""
    area = group.replace("/", ".")
    try:
        with initialize_config_dir(str(CONF_DIR.resolve())):
            whole = compose(config_name, words)
            alone = compose(config_name, [f"{group}={option}"])
    except (HydraException, OmegaConfBaseException):
        return []  # said where the command is composed
    return list(beyond(OmegaConf.select(whole, area), OmegaConf.select(alone, area), area))


def beyond(whole: DictConfig, alone: DictConfig, area: str) -> Iterator[str]:
    """Yield the dotted name of each key of ``whole`` that ``alone`` has not and that its class lacks."""
    for key in whole:
        name = f"{area}.{key!s}"
        if key not in alone and not takes(alone, str(key), area):
            yield name
        elif key in alone and holds_keys(whole, key) and holds_keys(alone, key):
            yield from beyond(whole[key], alone[key], name)


def takes(node: DictConfig, key: str, field: str) -> bool:
    """Return whether the class that a node names takes ``key``."""
    if "_target_" not in node:
        return False
    parameters = inspect.signature(target(node, field)).parameters
    return key in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
