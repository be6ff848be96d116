"""What ``resume`` means: which checkpoint, whether it is allowed, and files cut back to it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from nft_lightning.app.branch import checkpoint_of, words_of_branch
from nft_lightning.app.run_prompt import older_key
from nft_lightning.checkpoints.folder import (
    DamagedCheckpointError,
    checkpoints,
    verify,
)
from nft_lightning.common.text import key_of, quoted
from nft_lightning.distributed.launch import Ranks, ranks_of
from nft_lightning.errors import UserError
from nft_lightning.records.saved_config import (
    COMMAND,
    check_agreement,
    leaves,
    secret_override,
    without_secrets,
)

log = logging.getLogger(__name__)
ENDED = {
    "max_epochs": "; more trainer.max_epochs would continue it",
    "max_steps": "; more trainer.max_steps would continue it",
    "max_time": "; another trainer.max_time would continue it",
    "callbacks": ", ended by a callback; without it, it would continue",
    "empty_rollouts": "",
}
"""What a finished run says, by what ended it."""


@dataclass(frozen=True)
class Resume:
    """Where a run continues.

    Attributes:
        checkpoint: the folder; None where the run was ended before its first.
        about: its manifest.
        damaged: newer checkpoints that cannot be used, with the reason.
        changed: keys that change what is learned, with their values before and now (``resume_allow``).
    """

    checkpoint: Path | None
    about: dict[str, Any]
    damaged: tuple[tuple[Path, str], ...] = ()
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def position(self) -> tuple[int, int]:
        """Whole epochs, and updates of the next."""
        return self.about.get("epochs", 0), self.about.get("updates") or 0


def expand_resume(arguments: list[str]) -> list[str]:
    """``resume=FOLDER`` as the command that began the run, with what is given now on top.

    Where FOLDER is one of a run's checkpoints, the command begins a run of its own from it, in
    ``run_dir`` or beside the other (see :mod:`nft_lightning.app.branch`).

    Raises:
        UserError: the folder holds no run, or ``resume=auto`` names no folder.
    """
    given = {key_of(a): a.partition("=")[2] for a in arguments if "=" in a}
    chosen = given.get("resume", "null").strip("'\"")
    if chosen in ("null", ""):
        return arguments
    if chosen == "auto":
        if "run_dir" not in given and not any(a.startswith("-") for a in arguments):
            raise UserError("resume", "auto", "does not say which run", "add run_dir=FOLDER")
        return arguments
    checkpoint = checkpoint_of(str(Path(chosen).absolute()))
    folder = checkpoint.parent.parent if checkpoint else Path(chosen).absolute()
    if not (folder / "config.yaml").is_file():
        raise no_run(chosen)
    if "run_dir" in given and not checkpoint:
        raise UserError("run_dir", given["run_dir"], "has no effect with resume=FOLDER", "leave it out")
    check_names(folder)
    try:
        command = json.loads((folder / COMMAND).read_text())
        begun = command["overrides"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            "resume",
            chosen,
            f"lacks {COMMAND}, the command that began it ({error})",
            f"give that command again with run_dir={chosen} resume=auto",
        ) from error
    kept = [o for o in begun if key_of(o) not in given]
    # What the run was begun with by a + is not in the config without it.
    added = {key_of(o) for o in begun if o.startswith("+")}
    now = []
    for argument in arguments:
        key = key_of(argument)
        if key not in ("resume", "run_dir"):
            now.append(f"++{argument.lstrip('+')}" if key in added else argument)
    where = [f"run_dir={quoted(str(folder))}", "resume=auto"]
    if checkpoint:
        where = words_of_branch(checkpoint, given.get("run_dir"))
    begun_in = Path(command.get("folder", "."))
    if begun_in.is_dir():
        # The command has paths as they were typed.
        os.chdir(begun_in)
    return [*kept, *now, *where]


def no_run(chosen: str) -> UserError:
    """Return the error for a folder that is neither a run nor a checkpoint of one."""
    beside = [path.name for path in checkpoints(Path(chosen).parent)]
    if beside:
        remedy = f"use one of {', '.join(beside)}"
        return UserError("resume", chosen, "is no checkpoint of its run", remedy)
    return UserError("resume", chosen, "holds no run", "give the folder of a run")


def check_names(folder: Path) -> None:
    """Raise UserError where a run was begun by a version whose keys had other names."""
    try:
        saved = OmegaConf.load(folder / "config.yaml")
    except (OSError, ValueError, YAMLError):
        return  # said later, with what is wrong with it
    older = older_key(saved)
    optimizer = OmegaConf.select(saved, "optimizer")
    if not older and optimizer is not None and "schedule" not in optimizer:
        older = "the optimizer had no schedule"
    if older:
        raise UserError(
            "resume",
            str(folder),
            f"was begun by a version in which {older}",
            "finish it with that version, or begin a new run",
        )


def kept_overrides(overrides: Iterable[str]) -> list[str]:
    """Return what ``command.json`` holds: neither secrets nor what a resume gives again."""
    anew = ("resume", "run_dir", "resume_allow")
    return [o for o in overrides if key_of(o) not in anew and not secret_override(o)]


def find(cfg: DictConfig) -> Resume | None:
    """Return where to go on; None for a run that begins. Changes nothing.

    Raises:
        UserError: the run was begun with another config, was made without checkpoints, or was left
            within an epoch and several processes are to go on.
        DamagedCheckpointError: the one that ``cfg.resume`` names cannot be used.
    """
    named = checkpoint_of(cfg.resume)
    folder = named.parent.parent if named else Path(cfg.run_dir)
    if cfg.resume is None or not (folder / "config.yaml").is_file():
        return None
    check_names(folder)
    changed = check_agreement(cfg, folder / "config.yaml")
    check_optimizer_kind(cfg, OmegaConf.load(folder / "config.yaml"))
    damaged: list[tuple[Path, str]] = []
    for path in [named] if named else reversed(checkpoints(folder / "checkpoints")):
        try:
            found = Resume(path, verify(path), tuple(damaged), changed)
        except DamagedCheckpointError as error:
            if named:
                raise
            damaged.append((path, str(error)))
            continue
        check_ranks(found, ranks_of(cfg.trainer))
        check_epochs(found, cfg.trainer.max_epochs)
        return found
    return Resume(None, {}, tuple(damaged), changed)


def check_optimizer_kind(cfg: Any, saved: Any) -> None:
    """Raise UserError where the optimizer would not understand the state of the one before."""
    before, now = optimizer_kind(saved), optimizer_kind(cfg)
    if before != now:
        raise UserError(
            "optimizer",
            now,
            f"cannot continue with the state of {before}",
            "continue with the optimizer that the run was begun with, or begin a new run",
        )


def optimizer_kind(cfg: Any) -> str:
    """Return whose state the checkpoints of a config hold."""
    own = OmegaConf.select(cfg, "optimizer.custom._target_")
    name = str(OmegaConf.select(cfg, "optimizer.name"))
    return str(own) if own else "adamw_8bit" if name.endswith("8bit") else "adamw"


def check_ranks(found: Resume, now: Ranks) -> None:
    """Raise UserError where a checkpoint within an epoch is to be continued by another number of ranks.

    The rest of the epoch is laid out for those that began it.
    """
    epochs, updates = found.position
    before = found.about.get("ranks", 1)
    if found.about.get("updates") is None or before == now.per_host * now.hosts:
        return
    raise UserError(
        "trainer.devices",
        now.per_host,
        f"makes another number of ranks than the {before} that wrote {found.checkpoint}, which holds "
        f"the rest of an epoch, after {updates} updates",
        f"give as many until that epoch is over: trainer.devices={before} trainer.num_nodes=1 "
        f"trainer.max_epochs={epochs + 1}",
    )


def check_epochs(found: Resume, max_epochs: int) -> None:
    """Raise UserError where fewer epochs are asked for than are done."""
    epochs, updates = found.position
    if epochs + (updates > 0) > max_epochs:
        raise UserError(
            "trainer.max_epochs",
            max_epochs,
            f"is less than the run has done: {found.checkpoint} is in epoch {epochs + (updates > 0)}",
            f"give {epochs + 1} or more",
        )


def finished(cfg: DictConfig, resume: Resume) -> dict[str, Any] | None:
    """Return the summary of a run that has nothing left to do."""
    try:
        summary: dict[str, Any] = json.loads((Path(cfg.run_dir) / "summary.json").read_text())
    except (OSError, ValueError):
        return None
    done = still_ended(cfg, summary)
    if not done and resume.checkpoint is None:
        raise UserError(
            "resume", cfg.run_dir, "ended without a checkpoint", "begin a new run with more epochs"
        )
    return summary if done else None


def still_ended(cfg: DictConfig, summary: dict[str, Any]) -> bool:
    """Return whether what ended the run would end it now as well."""
    why = summary["ended_by"]
    if summary["epochs"] >= cfg.trainer.max_epochs:
        return True
    before = OmegaConf.to_container(OmegaConf.load(Path(cfg.run_dir) / "config.yaml"))
    assert isinstance(before, dict)
    if why == "max_steps":
        steps = cfg.trainer.get("max_steps", -1)
        return bool(0 <= steps <= summary["updates"])
    if why == "max_time":
        return bool(cfg.trainer.get("max_time") == before["trainer"].get("max_time"))
    if why == "callbacks":
        return callbacks_of(without_secrets(cfg)) == callbacks_of(before)
    return why == "empty_rollouts"


def callbacks_of(config: Any) -> dict[str, Any]:
    """Return the callbacks of a resolved config, key by key, without those that name the run folder."""
    run_dir = config["run_dir"]
    return {name: value for name, value in leaves(config.get("callbacks")) if value != run_dir}
