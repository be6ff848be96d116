"""The files of a run folder, cut back to the checkpoint that a run continues from."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from omegaconf import DictConfig

from nft_lightning.app.resume import Resume
from nft_lightning.checkpoints.folder import (
    DAMAGED,
    PARTIAL,
    set_aside,
)
from nft_lightning.checkpoints.resumable_logger import resumable
from nft_lightning.common.files import write_text_whole
from nft_lightning.distributed.processes import rank
from nft_lightning.records.saved_config import CHANGES

log = logging.getLogger(__name__)


def write_changes(folder: Path, resume: Resume) -> None:
    """Add to ``changes.json`` what is learned otherwise from here on; drop what never came to be."""
    path, (epochs, updates) = folder / CHANGES, resume.position
    before = json.loads(path.read_text()) if path.exists() else []
    known = [c for c in before if (c["epochs"], c["updates"]) < (epochs, updates)]
    if resume.changed:
        known.append({"epochs": epochs, "updates": updates, "changed": resume.changed})
    if known:
        write_text_whole(path, json.dumps(known, indent=2) + "\n")
    else:
        path.unlink(missing_ok=True)


def tidy(cfg: DictConfig, resume: Resume, loggers: Iterable[Any]) -> None:
    """Cut the run's files back to the checkpoint, and say what could not be used. One rank does it."""
    if rank():
        return
    folder, (epochs, updates) = Path(cfg.run_dir), resume.position
    write_changes(folder, resume)
    for path, reason in resume.damaged:
        log.warning("%s; it is kept as %s%s, and the one before is used", reason, DAMAGED, path.name)
        set_aside(path)
    for partial in (folder / "checkpoints").glob(f"{PARTIAL}*"):
        shutil.rmtree(partial) if partial.is_dir() and not partial.is_symlink() else partial.unlink()
    positions = resume.about.get("logs", {})
    for name, logger in resumable(loggers).items():
        logger.cut(positions.get(name))
    for path in [*folder.glob("rollouts/epoch_*"), *folder.glob("skipped/epoch_*")]:
        at = tuple(map(int, re.findall(r"\d+", path.stem)))
        if at[0] >= epochs and (at[0] > epochs or len(at) == 1 or at[1] >= updates):
            path.unlink()
    for path in folder.glob("evaluations/*.parquet"):
        at_epoch = json.loads(pq.read_schema(path).metadata[b"axes"])["epochs"]
        scheduled = at_epoch % cfg.evaluation.every_epochs == 0
        # The end of a run that now continues was evaluated out of turn.
        if at_epoch > epochs or (at_epoch == epochs and not scheduled):
            path.unlink()
    for name in ("summary.json", *(() if resume.checkpoint else ("gradient_cosine.csv",))):
        (folder / name).unlink(missing_ok=True)
