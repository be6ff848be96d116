"""Loggers whose files can be cut back to where a checkpoint was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from nft_lightning.records.table import Table
from nft_lightning.records.writing import check_write_rule, written

UPDATE = "update/"


class MetricsTable(Logger):
    """``metrics.csv``, a row for each rollout and evaluation, and ``updates.csv``, one for each update.

    Args:
        save_dir: the run folder.
        on_write_error: ``continue``, the rows then wait for the next that can be written, or ``stop``.
    """

    def __init__(self, save_dir: str, on_write_error: str = "continue") -> None:
        super().__init__()
        rule = check_write_rule(on_write_error, "logger.csv.on_write_error")
        self.metrics = Table(Path(save_dir) / "metrics.csv", rule)
        self.updates = Table(Path(save_dir) / "updates.csv", rule)

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
        """Add a row to the table that it belongs to."""
        table = self.updates if of_an_update(metrics) else self.metrics
        table.add({**metrics, "step": table.rows if step is None else step})

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in ``config.yaml``."""

    @rank_zero_only
    def save(self) -> None:
        """Append what waits."""
        self.metrics.save()
        self.updates.save()

    def position(self) -> dict[str, int]:
        """Return the rows of each table so far, safe on the disk."""
        return {"metrics": self.metrics.position(), "updates": self.updates.position()}

    def cut(self, position: dict[str, int] | None) -> None:
        """Forget the rows behind ``position``; None is all of them."""
        found = position or {}
        self.metrics.cut(found.get("metrics", 0))
        self.updates.cut(found.get("updates", 0))


def of_an_update(metrics: Mapping[str, float]) -> bool:
    """Return whether a call is about one update: ours, or a callback's that logs on its own.

    Lightning adds the epoch to what a module logs; callbacks such as LearningRateMonitor call a logger
    themselves, and do not.
    """
    return "epoch" not in metrics or any(name.startswith(UPDATE) for name in metrics)


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
