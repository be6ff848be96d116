"""Loggers whose files can be cut back to where a checkpoint was made."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from nft_lightning.checkpoints.folder import flush
from nft_lightning.common.files import write_text_whole
from nft_lightning.errors import RunStoppedError, UserError

log = logging.getLogger(__name__)
WRITE_RULES = ("continue", "stop")


def check_write_rule(rule: str, field: str) -> str:
    """``rule``, or UserError."""
    if rule not in WRITE_RULES:
        raise UserError(field, rule, "is no rule", f"use one of {', '.join(WRITE_RULES)}")
    return rule


@contextmanager
def written(what: Path, rule: str) -> Iterator[None]:
    """Yield a full disk or the like ends the run, or costs it this file alone, by ``rule``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if rule == "stop":
            raise RunStoppedError(f"{what} could not be written ({reason})") from error
        log.warning("%s could not be written (%s); the run continues without", what, reason)


class MetricsTable(Logger):
    """``metrics.csv``: a row for each call, whole rows only, also after a kill.

    Args:
        save_dir: the run folder.
        on_write_error: ``continue``, the rows then wait for the next that can be written, or ``stop``.
    """

    def __init__(self, save_dir: str, on_write_error: str = "continue") -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.rule = check_write_rule(on_write_error, "logger.csv.on_write_error")
        self.waiting: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.rows = 0

    @property
    def name(self) -> str:
        """Empty: callbacks such as ModelCheckpoint make folders of this name in the run folder."""
        return ""

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row."""
        self.waiting.append({**metrics, "step": self.rows if step is None else step})
        self.rows += 1

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in ``config.yaml``."""

    @rank_zero_only
    def save(self) -> None:
        """Append what waits; new columns rewrite the file beside the old one and replace it."""
        if not self.waiting:
            return
        with written(self.path, self.rule):
            names = sorted({*self.names, *(k for row in self.waiting for k in row)})
            if names != self.names or not self.path.exists():
                self.replace(names, [*self.read(), *self.waiting])
            else:
                with open(self.path, "a", newline="", encoding="utf-8") as file:
                    file.write(text_of(names, self.waiting))
            self.waiting, self.names = [], names

    def read(self) -> list[dict[str, Any]]:
        """Return the rows of the file."""
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def replace(self, names: list[str], rows: list[dict[str, Any]]) -> None:
        """Write the whole file anew, in one step."""
        write_text_whole(self.path, text_of(names, [dict(zip(names, names, strict=True)), *rows]))

    def position(self) -> int:
        """Return rows so far, safe on the disk."""
        self.save()
        if self.path.exists():
            flush(self.path)
        return self.rows

    def cut(self, position: int | None) -> None:
        """Forget the rows behind ``position``; None is all of them."""
        rows = self.read()[:position] if position else []
        self.rows, self.waiting = len(rows), []
        # Columns that only came later go with the rows: the file is as it was.
        self.names = sorted(k for k in (rows[0] if rows else ()) if any(row.get(k) for row in rows))
        if rows:
            self.replace(self.names, rows)
        else:
            self.path.unlink(missing_ok=True)


def text_of(names: list[str], rows: list[dict[str, Any]]) -> str:
    """Return lines of CSV."""
    out = io.StringIO(newline="")
    csv.DictWriter(out, names, extrasaction="ignore").writerows(rows)
    return out.getvalue()


class EventLog(TensorBoardLogger):
    """TensorBoard's event files; each is only ever appended to, so a position is its length."""

    def __init__(self, save_dir: str, on_write_error: str = "continue", **options: Any) -> None:
        super().__init__(save_dir, **options)
        self.rule = check_write_rule(on_write_error, "logger.tensorboard.on_write_error")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add scalars."""
        with written(Path(self.log_dir), self.rule):
            super().log_metrics(metrics, step)

    @rank_zero_only
    def save(self) -> None:
        """Hand what is queued to the disk."""
        with written(Path(self.log_dir), self.rule):
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file."""
        with written(Path(self.log_dir), self.rule):
            super().finalize(status)

    def event_files(self) -> list[Path]:
        """Return those there are."""
        return sorted(Path(self.log_dir).glob("events.out.tfevents.*"))

    def position(self) -> dict[str, int]:
        """Return the length of each file."""
        self.save()
        return {path.name: path.stat().st_size for path in self.event_files()}

    def cut(self, position: dict[str, int] | None) -> None:
        """Shorten each file to what it was, and remove those that were not there."""
        for path in self.event_files():
            length = (position or {}).get(path.name)
            if length is None:
                path.unlink()
            elif length < path.stat().st_size:
                with open(path, "r+b") as file:
                    file.truncate(length)
