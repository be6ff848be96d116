"""What every command does around its work: check the arguments, turn bad input into one sentence."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nft_lightning.app.build import CONF_DIR
from nft_lightning.app.trainer_keys import trainer_keys
from nft_lightning.cli.owners import dotted, of_a_group
from nft_lightning.cli.words import check_added, check_words, group_of, readable, ready, understood
from nft_lightning.common.text import key_of, quoted
from nft_lightning.distributed.preemption import Preempted
from nft_lightning.distributed.ranks import lost_another_rank
from nft_lightning.engines.base import EngineError
from nft_lightning.errors import RunStoppedError, UserError, first_line

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 1


def take_debug_flag(arguments: list[str]) -> bool:
    """Remove ``--debug``; true where it was given."""
    if "--debug" in arguments:
        arguments.remove("--debug")
        return True
    return False


def import_from_here() -> None:
    """Make modules in the current folder importable; none of them hides one that is installed."""
    here = os.getcwd()
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)


def guarded(work: Callable[[], None], debug: bool) -> None:
    """Run; what ends it becomes one sentence and an exit code.

    2 for bad input; 1 for a run that cannot continue; 75 for one that a signal asked to leave and that
    ``resume`` continues, 130 where that was Ctrl-C.
    """
    try:
        work()
    except (UserError, OmegaConfBaseException) as error:
        if debug:
            raise
        said = error if isinstance(error, UserError) else unreadable(error)
        sys.stderr.write(f"error: {said}\n")
        sys.exit(EXIT_BAD_INPUT)
    except (EngineError, RunStoppedError) as error:
        if debug:
            raise
        sys.stderr.write(f"stopped: {error}\n")
        sys.exit(EXIT_STOPPED)
    except Preempted as signal:
        saved = f" after writing {signal.checkpoint}" if signal.checkpoint else ""
        run = Path(signal.checkpoint).parents[1] if signal.checkpoint else "RUN_FOLDER"
        sys.stderr.write(f"left on {signal}{saved}; nft-train resume={run} continues.\n")
        sys.exit(signal.exit_code)
    except RuntimeError as error:
        if debug or not lost_another_rank(error):
            raise
        sys.stderr.write("stopped: another rank ended, so that this one could not continue.\n")
        sys.exit(EXIT_STOPPED)


def unreadable(error: OmegaConfBaseException) -> UserError:
    """Return the sentence for a key of the config that is not there, or whose value cannot be read."""
    node, reason = error.parent_node, first_line(error)
    field = str(error.full_key or error.key or "config")
    return UserError(
        field, as_written(node, error.key), f"cannot be read ({reason})", "give it a value, see --help"
    )


def as_written(node: Any, key: Any) -> Any:
    """Return the value under ``key`` with its references as they are written; None where none is."""
    try:
        plain: Any = OmegaConf.to_container(node, resolve=False)
        return plain[key]
    except (LookupError, ValueError):
        return None


def is_plain_run(arguments: list[str]) -> bool:
    """Return whether the arguments are overrides only, so that they can be checked ahead."""
    return not any(a.startswith("-") for a in arguments)


def compose_or_explain(config_name: str, overrides: list[str]) -> DictConfig:
    """Return the composed config; Hydra's complaints become UserErrors that offer the nearest name."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    with initialize_config_dir(str(CONF_DIR.resolve())):
        given = ready(without_hydra(overrides))
        check_words(config_name, given)
        try:
            without_added = [a for a in given if not a.startswith("+")]
            check_added(given, lambda: dotted(compose(config_name, without_added)))
            composed = compose(config_name, given, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(config_name, given, str(error)) from error
        check_references(composed, given)
        return composed


def check_references(cfg: DictConfig, overrides: list[str]) -> None:
    """Raise UserError for a typed value with a reference to what is not there."""
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        # Hydra's own are known once it has started.
        if "${" not in value or "${hydra" in value or group_of(override):
            continue
        try:
            OmegaConf.select(cfg, key)
        except OmegaConfBaseException as error:
            reason = first_line(error)
            remedy = "refer to another key, or give a value"
            raise UserError(key, value, f"cannot be read ({reason})", remedy) from error


def without_hydra(overrides: list[str]) -> list[str]:
    """Return what concerns the config, and where more of it is; Hydra's own settings wait for
    Hydra.
    """
    return [
        o
        for o in overrides
        if not o.lstrip("+~").startswith("hydra") or o.lstrip("+~").startswith("hydra.searchpath")
    ]


def explain(config_name: str, overrides: list[str], message: str) -> UserError:
    """Return a sentence for an override that Hydra refused."""
    from hydra import compose

    names = dotted(compose(config_name, valid_choices(overrides)))
    if "trainer" in names:
        names = list(dict.fromkeys([*names, *(f"trainer.{k}" for k in trainer_keys())]))
    known = [*names, *groups()]
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        named = any(f"'{k}'" in message for k in (key, key.rsplit(".", 1)[-1]))
        if key not in names and named:
            given = understood(override)
            shown = (given if isinstance(given, str) else value) if value else None
            remedy = of_a_group(key, names) or nearest(key, known)
            return UserError(key, shown, "is not a known key", remedy)
    several = next((o for o in overrides if "," in o.partition("=")[2] and readable(o)), None)
    if several is not None and "mbiguous" in message:
        key, _, value = several.partition("=")
        remedy = f'add -m to try each, or write "{key}={quoted(value)}"'
        return UserError(key, value, "is several values", remedy)
    said = [line.strip() for line in message.splitlines() if line.strip()]
    reason = " ".join(said[:2]).rstrip(".")
    refused = [o for o in overrides if o in message] or overrides[:1]
    for override in refused:
        key, value = key_of(override), understood(override)
        if "${" in str(value):
            remedy = "close it by }, or leave it out"
            return UserError(key, value, "holds ${, which begins a reference", remedy)
        return UserError(key, value, f"cannot be used ({reason})", "see --help")
    return UserError("conf", str(CONF_DIR), f"cannot be composed ({reason})", "see --help")


def valid_choices(overrides: list[str]) -> list[str]:
    """Return those overrides that choose an option that exists: what the other keys belong to."""
    pairs = [(o, *o.partition("=")[::2]) for o in overrides]
    return [o for o, group, value in pairs if (CONF_DIR / group / f"{value}.yaml").is_file()]


def groups() -> list[str]:
    """Return the config groups."""
    return sorted(p.name for p in CONF_DIR.iterdir() if p.is_dir())


def nearest(given: str, names: list[str]) -> str:
    """Return a remedy that names the closest valid choice, or all of those beside it."""
    parent, _, last = given.rpartition(".")
    beside = {
        n.rpartition(".")[2]: n
        for n in names
        if n.rpartition(".")[0] == parent and not n.endswith("_target_")
    }
    # Under a key that exists, its own subtree; else the whole config.
    root = given.partition(".")[0]
    inside = [n for n in names if n.partition(".")[0] == root and parent] or names
    below = {n.rpartition(".")[2]: n for n in inside}
    near = [below[last]] if last in below else []
    for tails in (beside, below):
        near = near or [tails[t] for t in difflib.get_close_matches(last, list(tails), 1, 0.7)]
    if near:
        return f"did you mean {near[0]}"
    return f"use one of {', '.join(beside.values())}" if 0 < len(beside) < 30 else "see --help"


def config_dir() -> Path:
    """Return where the commands find ``conf/``: in the wheel or in the clone."""
    return CONF_DIR.resolve()
