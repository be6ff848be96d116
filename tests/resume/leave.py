"""A signal that comes at a certain place of a run, on one rank or in the only process."""

from __future__ import annotations

import contextlib
import os
import signal
from unittest import mock

import lightning as L

from nft_lightning.app import run as running
from nft_lightning.distributed.preemption import Preempted
from nft_lightning.training.datamodule import RolloutDataModule


class Leave(L.Callback):
    """Sends this process a signal at a place."""

    place = ""
    seen: tuple[str, ...] = ()

    def at(self, place):
        Leave.seen = (*Leave.seen, place)
        if place == Leave.place:
            Leave.place = ""
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_epoch_start(self, trainer, pl_module):
        self.at(f"epoch {trainer.current_epoch}")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.at(f"epoch {trainer.current_epoch} update {batch_idx}")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.at(f"epoch {trainer.current_epoch} after {batch_idx}")

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.at(f"epoch {trainer.current_epoch} evaluation {trainer.state.fn.value}")

    def on_train_epoch_end(self, trainer, pl_module):
        self.at(f"epoch {trainer.current_epoch} end")


@contextlib.contextmanager
def watched_places():
    """Let :class:`Leave` see every place of the runs inside; the phases of a rollout are places, too."""
    made = running.build_trainer
    roll_out = RolloutDataModule.roll_out

    def build_trainer(cfg, parts, state):
        trainer = made(cfg, parts, state)
        trainer.callbacks.insert(1, Leave())
        return trainer

    def watched(self):
        watcher = Leave()
        # The first phase named so; listeners hear of each when it begins.
        listen = lambda phase: watcher.at(f"epoch {self.trainer.current_epoch} {phase}")  # noqa: E731
        self.timer.listeners.append(listen)
        try:
            return roll_out(self)
        finally:
            self.timer.listeners.remove(listen)

    with (
        mock.patch.object(running, "build_trainer", build_trainer),
        mock.patch.object(RolloutDataModule, "roll_out", watched),
    ):
        yield


def leave_at(cfg, place: str, here: bool = True) -> Preempted:
    """Run until the signal comes at ``place``, in this process if ``here``; what the run then raises."""
    Leave.place = place if here else ""
    try:
        running.run(cfg, [])
    except Preempted as caught:
        assert Leave.place == "", "the place was never reached"
        return caught
    raise AssertionError("the run ended as if it had not been asked to leave")
