"""A run that begins at a checkpoint of another run: a copy of its folder, which then continues alone."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from omegaconf import DictConfig

from nft_lightning.checkpoints.folder import checkpoints
from nft_lightning.checkpoints.lock import NAME as LOCK
from nft_lightning.common.files import write_text_whole
from nft_lightning.common.text import quoted
from nft_lightning.distributed.processes import rank

POLL_SECONDS = 0.2
# What belongs to the run's own end, or to the process that writes it.
LEFT_OUT = ("checkpoints", "export", "config.yaml", "summary.json", LOCK, "nft-train.log")


def checkpoint_of(resume: str | None) -> Path | None:
    """Return the checkpoint that ``resume=`` names; None where it names a run, or nothing."""
    if resume in (None, "", "auto"):
        return None
    named = Path(str(resume))
    # ``last`` and ``best`` are links.
    path = named.parent / named.resolve().name
    of_a_run = (path.parent.parent / "config.yaml").is_file()
    return path if of_a_run and path in checkpoints(path.parent) else None


def words_of_branch(checkpoint: Path, run_dir: str | None) -> list[str]:
    """Return the overrides of a run that begins at ``checkpoint``, beside its run by default."""
    run = checkpoint.parent.parent
    folder = Path((run_dir or f"{run}_from_{checkpoint.name}").strip("'\"")).absolute()
    return [f"run_dir={quoted(str(folder))}", f"resume={quoted(str(checkpoint))}"]


def begin_branch(cfg: DictConfig) -> None:
    """Fill the run folder from the run whose checkpoint ``cfg.resume`` names; that run stays as it is.

    The first rank does it, and the others wait for its last file.
    """
    checkpoint, folder = checkpoint_of(cfg.resume), Path(cfg.run_dir)
    if checkpoint is None:
        return
    if rank():
        while not (folder / "config.yaml").exists():
            time.sleep(POLL_SECONDS)
        return
    run = checkpoint.parent.parent
    for path in run.iterdir():
        if path.is_dir() and path.name not in LEFT_OUT:
            shutil.copytree(path, folder / path.name, symlinks=True, dirs_exist_ok=True)
        elif path.name not in LEFT_OUT:
            shutil.copy2(path, folder / path.name)
    copy_checkpoint(checkpoint, folder / "checkpoints" / checkpoint.name)
    write_text_whole(folder / "config.yaml", (run / "config.yaml").read_text())


def copy_checkpoint(checkpoint: Path, copy: Path) -> None:
    """Give a checkpoint a second name, without a second copy where the file system can."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for path in checkpoint.iterdir():
        try:
            os.link(path, copy / path.name)
        except OSError:
            shutil.copy2(path, copy / path.name)
