"""Which option of which config group has a key that was typed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import CONF_DIR, options_of

PACKAGE = "# @package "
GLOBAL = "_global_"


def of_a_group(key: str, names: Sequence[str]) -> str:
    """Return a remedy that names the options of the key's group; empty where they say nothing of it.

    Args:
        key: as it was typed, dotted. names: every key of the config without it.
    """
    group, _, rest = key.partition(".")
    if not rest or not (CONF_DIR / group).is_dir():
        return ""
    chosen = any(name.startswith(f"{group}.") for name in names)
    keys = {option: keys_of(group, option) for option in options_of(group)}
    owners = [option for option, own in keys.items() if rest in own]
    if owners:
        return belongs(group, rest, owners, chosen)
    if chosen:
        # What the chosen option has is nearer.
        return ""
    every = {name: option for option, own in keys.items() for name in own}
    near = difflib.get_close_matches(rest, list(every), 1, 0.7)
    if near:
        option = every[near[0]]
        return f"did you mean {package_of(group, option)}{near[0]}, with {group}={option}"
    return f"choose {group}={' or '.join(keys)} first, or leave it out"


def belongs(group: str, rest: str, owners: Sequence[str], chosen: bool) -> str:
    """Return a remedy for a key ``rest`` that the options ``owners`` of the group have."""
    named = [f"{group}={option}" for option in owners]
    package = package_of(group, owners[0])
    if package != f"{group}.":
        return f"write {package}{rest}, which {named[0]} sets"
    also = "" if chosen else ", so give " + ("that" if len(named) == 1 else "one of them") + " too"
    return f"it belongs to {', '.join(named)}{also}"


def keys_of(group: str, option: str) -> list[str]:
    """Return the dotted keys of an option's file."""
    node = OmegaConf.load(CONF_DIR / group / f"{option}.yaml")
    return [k for k in dotted(node) if k != "defaults"] if isinstance(node, DictConfig) else []


def package_of(group: str, option: str) -> str:
    """Return what comes before an option's keys in the config: empty, or a name and a dot."""
    first = Path(CONF_DIR / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()[0]
    named = first.removeprefix(PACKAGE).strip() if first.startswith(PACKAGE) else group
    return "" if named == GLOBAL else f"{named}."


def dotted(node: DictConfig, prefix: str = "") -> list[str]:
    """Return every key of the config, in dotted form."""
    found = []
    for key in node:
        name = f"{prefix}{key!s}"
        found.append(name)
        if holds_keys(node, key):
            found += dotted(node[key], f"{name}.")
    return found


def holds_keys(node: DictConfig, key: Any) -> bool:
    """Return whether a node with keys of its own is under ``key``, and no reference to one."""
    if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
        return False
    return isinstance(node[key], DictConfig)
