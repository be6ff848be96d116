"""The state of a run that is neither the model's nor the data's: loops, random states, what was seen."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch

from nft_lightning.checkpoints.random_state import random_states, set_random_states
from nft_lightning.distributed.preemption import PreemptionHandler
from nft_lightning.distributed.ranks import gather_objects, own_part
from nft_lightning.rollouts import serialized as packing
from nft_lightning.training.datamodule import RolloutDataModule
from nft_lightning.training.module import PolicyModule
from nft_lightning.training.private_lightning import STEPPED
from nft_lightning.types import Group


class ExactResume(L.Callback):
    """Makes every checkpoint of Lightning's whole, so that resuming from it changes no bit.

    Without it a Trainer of one's own resumes exactly at the ends of epochs; with it also within an
    epoch, and with the global random states. ``nft-train`` always uses it.

    Args:
        preemption: listens to signals that ask the run to leave; None leaves them to Lightning.

    Attributes:
        before: the metrics of the first evaluation; samples_before: its answers.
        evaluation: the metrics of the last evaluation during training; evaluated: the policy version
            that it was made with.
        seconds: training time of the processes before this one, wall and processor.
    """

    def __init__(self, preemption: PreemptionHandler | None = None) -> None:
        self.preemption = preemption
        self.before: dict[str, float] = {}
        self.samples_before: list[Group] = []
        self.evaluation: dict[str, float] = {}
        self.evaluated = -1
        self.seconds = {"wall": 0.0, "processor": 0.0}
        self.started = (time.perf_counter(), time.process_time())
        self.random: dict[str, Any] | None = None
        # The callbacks have seen the evaluation of these weights: no resume is to repeat it.
        self.evaluation_seen = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Listen to signals where nothing is lost by it."""
        assert isinstance(pl_module, PolicyModule)
        pl_module.data.resume_exactly(self.preemption)
        if self.preemption is not None and trainer.world_size > 1:
            self.preemption.leave_together(lambda mine: largest(trainer, mine))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clocks begin."""
        self.started = (time.perf_counter(), time.process_time())

    def spent(self) -> dict[str, float]:
        """Return seconds of training, earlier processes of the run included."""
        wall, processor = self.started
        return {
            "wall": self.seconds["wall"] + time.perf_counter() - wall,
            "processor": self.seconds["processor"] + time.process_time() - processor,
        }

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last moment before training continues. Lightning's own handlers give way to ours."""
        if self.preemption is not None:
            self.preemption.install()
        if self.random is not None:
            set_random_states(self.random)
            self.random = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """An evaluation begins."""
        self.evaluation_seen = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch is over, its evaluation too."""
        self.evaluation_seen = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember what an evaluation during training found."""
        if trainer.state.fn == "fit":
            assert isinstance(pl_module, PolicyModule)
            self.evaluation_seen = not trainer.sanity_checking
            self.evaluated = pl_module.policy_version
            self.evaluation = {
                k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("eval/")
            }

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Bring the loops into their canonical state; add the random states."""
        assert isinstance(pl_module, PolicyModule)
        if not self.evaluation_seen:
            epochs, updates = position(trainer, pl_module.data)
            length = pl_module.data.batching.updates_per_rollout
            loop = canonical_loop(checkpoint["loops"]["fit_loop"], epochs, updates or 0, length)
            checkpoint["loops"] = {"fit_loop": loop}
            checkpoint["epoch"] = epochs
        checkpoint["run"] = {
            "random": gather_objects(random_states()),
            "before": self.before,
            "samples_before": packing.pack_groups(self.samples_before),
            "evaluation": self.evaluation,
            "evaluated": self.evaluated,
            "seconds": self.spent(),
        }

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take over; the random states wait until training starts."""
        assert isinstance(pl_module, PolicyModule)
        run = checkpoint["run"]
        self.random = own_part(run["random"])
        self.before = run["before"]
        self.evaluation, self.evaluated = run["evaluation"], run["evaluated"]
        self.samples_before = packing.unpack_groups(run["samples_before"])
        self.seconds = dict(run["seconds"])
        if pl_module.data.gave_up:
            trainer.should_stop = True


def largest(trainer: L.Trainer, mine: int) -> int:
    """Return the largest of what the ranks give: a collective call."""
    own = torch.tensor(mine, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(own, reduce_op="max"))


def epochs_done(trainer: L.Trainer) -> int:
    """Whole epochs behind the run."""
    return int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]


def position(trainer: L.Trainer, data: RolloutDataModule) -> tuple[int, int | None]:
    """Finished epochs, and the updates done since; None where the next rollout is not made yet.

    Lightning counts an epoch that was cut short as one that is done.
    """
    epochs = epochs_done(trainer) - data.progress.cut_short
    if data.progress.pending is None:
        return epochs, None
    return epochs, data.batching.updates_per_rollout - len(data.progress.pending)


def canonical_loop(state: dict[str, Any], epochs: int, updates: int, length: int) -> dict[str, Any]:
    """Return the fit loop's state after ``epochs`` whole epochs of ``length`` batches and ``updates``
    more.

    Hooks see half-counted progress, from which Lightning restarts differently, or not at all. After
    the last update of an epoch its evaluation is still to come: the loop then gets one batch
    less, and the data module serves an empty one.
    """
    updates = min(updates, length - 1)
    begun = epochs + (updates > 0)
    counted = ("ready", "started", "processed", "completed")
    epoch = {"ready": begun, "started": begun, "processed": epochs, "completed": epochs}
    done = epochs * length + updates
    in_epoch = updates if updates else (length if epochs else 0)
    nothing = dict.fromkeys(counted, 0)
    return {
        **state,
        "epoch_progress": {"total": dict(epoch), "current": dict(epoch)},
        "epoch_loop.state_dict": {STEPPED: done},
        "epoch_loop.batch_progress": {
            "total": dict.fromkeys(counted, done),
            "current": dict.fromkeys(counted, in_epoch),
            "is_last_batch": updates == 0 and epochs > 0,
        },
        "epoch_loop.val_loop.batch_progress": {
            "total": dict(nothing),
            "current": dict(nothing),
            "is_last_batch": False,
        },
    }
