"""What every command does around its work: check the arguments, turn bad input into one sentence."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from nft_lightning.app.build import CONF_DIR, new_name, options_of, renamed
from nft_lightning.cli.words import check_added, readable, ready, trainer_keys
from nft_lightning.common.text import quoted
from nft_lightning.distributed.preemption import Preempted
from nft_lightning.distributed.ranks import lost_another_rank
from nft_lightning.engines.base import EngineError
from nft_lightning.errors import RunStoppedError, UserError

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 1


def take_debug_flag(arguments: list[str]) -> bool:
    """Remove ``--debug``; true where it was given."""
    if "--debug" in arguments:
        arguments.remove("--debug")
        return True
    return False


def guarded(work: Callable[[], None], debug: bool) -> None:
    """Run; what ends it becomes one sentence and an exit code.

    2 for bad input; 1 for a run that cannot continue; 75 for one that a signal asked to leave and that
    ``resume`` continues, 130 where that was Ctrl-C.
    """
    try:
        work()
    except UserError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {error}\n")
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


def is_plain_run(arguments: list[str]) -> bool:
    """Return whether the arguments are overrides alone, so that they can be checked ahead."""
    return not any(a.startswith("-") for a in arguments)


def compose_or_explain(config_name: str, overrides: list[str]) -> DictConfig:
    """Return the composed config; Hydra's complaints become UserErrors that offer the nearest name."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    with initialize_config_dir(str(CONF_DIR.resolve())):
        try:
            given = ready(without_hydra(overrides))
            names = dotted(compose(config_name, [a for a in given if not a.startswith("+")]))
            check_added(given, names)
            return compose(config_name, given, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(config_name, overrides, str(error)) from error


def without_hydra(overrides: list[str]) -> list[str]:
    """Return what concerns the config, and where more of it lies; Hydra's own settings wait for
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
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        group = key.split("@")[0].lstrip("/")
        if not re.fullmatch(r"[\w./@-]+", key) or "=" not in override:
            return UserError(
                "argument", override, "is not of the form key=value", "see nft-train --help"
            )
        if new_name(key) is not None:
            return renamed(key, value)
        if (CONF_DIR / group).is_dir():
            options = options_of(group)
            if value not in options and "," not in value:
                return UserError(group, value, "is not an option", nearest(value, options))
        elif key not in names and any(f"'{k}'" in message for k in (key, key.rsplit(".", 1)[-1])):
            return UserError(key, value, "is not a known key", nearest(key, [*names, *groups()]))
    several = next((o for o in overrides if "," in o.partition("=")[2] and readable(o)), None)
    if several is not None and "mbiguous" in message:
        key, _, value = several.partition("=")
        remedy = f"add -m to try each, or write '{key}={quoted(value)}'"
        return UserError(key, value, "is several values", remedy)
    return UserError("arguments", " ".join(overrides), message.splitlines()[0].rstrip("."), "see --help")


def valid_choices(overrides: list[str]) -> list[str]:
    """Return those overrides that choose an option that exists: what the other keys belong to."""
    pairs = [(o, *o.partition("=")[::2]) for o in overrides]
    return [o for o, group, value in pairs if (CONF_DIR / group / f"{value}.yaml").is_file()]


def groups() -> list[str]:
    """Return the config groups."""
    return sorted(p.name for p in CONF_DIR.iterdir() if p.is_dir())


def dotted(node: DictConfig, prefix: str = "") -> list[str]:
    """Return every key of the config, in dotted form."""
    found = []
    for key in node:
        name = f"{prefix}{key!s}"
        found.append(name)
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            found += dotted(child, f"{name}.")
    return found


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
    return f"use one of {', '.join(beside.values())}" if 0 < len(beside) < 30 else "see nft-train --help"


def config_dir() -> Path:
    """Return where the commands find ``conf/``: in the wheel or in the clone."""
    return CONF_DIR.resolve()
