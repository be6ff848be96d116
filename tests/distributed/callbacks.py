"""Callbacks that runs of several ranks are given in tests."""

from __future__ import annotations

import os
import signal

import lightning as L


class Fail(L.Callback):
    """Raises on one rank, in the middle of training."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == self.rank:
            raise ValueError("the device fell off the bus")


class End(L.Callback):
    """Sends a signal to one rank's process, or to the launcher where ``rank`` is -1; after an update."""

    def __init__(self, signal_name: str, rank: int) -> None:
        self.signum = getattr(signal, signal_name)
        self.rank = rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step and trainer.global_rank == max(0, self.rank) and batch_idx == 1:
            os.kill(os.getppid() if self.rank < 0 else os.getpid(), self.signum)
