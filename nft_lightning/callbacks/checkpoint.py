"""Checkpoints: the best by held-out accuracy, and the last."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint


def best_and_last(run_dir: str, monitor: str, keep: int = 1) -> ModelCheckpoint:
    """Lightning's own callback, in ``run_dir/checkpoints``."""
    return ModelCheckpoint(
        dirpath=Path(run_dir) / "checkpoints",
        filename="best",
        monitor=monitor,
        mode="max",
        save_top_k=keep,
        save_last=True,
        enable_version_counter=False,
    )
