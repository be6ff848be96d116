from __future__ import annotations

import os
import signal

import lightning as L
import pytest
from hydra import compose, initialize_config_dir

from nft_lightning.checkpointing.signals import Preempted
from nft_lightning.cli import run as running
from nft_lightning.config import CONF_DIR
from nft_lightning.datamodule import RolloutDataModule

SETTINGS = (
    "rollout.plan.problems_per_rollout=8",
    "rollout.plan.completions_per_problem=4",
    "evaluation.problems=6",
    "evaluation.completions_per_problem=2",
    "evaluation.every_epochs=2",
    "batching.updates_per_rollout=3",
    "trainer.max_epochs=4",
    "callbacks.progress=null",
)


def brief(*overrides):
    """A config whose run takes seconds."""
    with initialize_config_dir(str(CONF_DIR.resolve())):
        return compose("train", [*SETTINGS, *overrides])


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


@pytest.fixture
def leaving(monkeypatch):
    """Run a config until ``place``; the phases of a rollout are places, too."""
    made = running.build_trainer

    def build_trainer(cfg, parts, state):
        trainer = made(cfg, parts, state)
        trainer.callbacks.insert(1, Leave())
        return trainer

    roll_out = RolloutDataModule.roll_out

    def watched(self):
        watcher = Leave()
        # The first phase named so; listeners hear of each when it begins.
        listen = lambda phase: watcher.at(f"epoch {self.trainer.current_epoch} {phase}")  # noqa: E731
        self.timer.listeners.append(listen)
        try:
            return roll_out(self)
        finally:
            self.timer.listeners.remove(listen)

    monkeypatch.setattr(running, "build_trainer", build_trainer)
    monkeypatch.setattr(RolloutDataModule, "roll_out", watched)

    def run(cfg, place):
        Leave.place = place
        with pytest.raises(Preempted) as caught:
            running.run(cfg, [])
        assert Leave.place == "", "the place was never reached"
        return caught.value

    return run


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    running.run(brief(f"run_dir={folder}"))
    return folder
