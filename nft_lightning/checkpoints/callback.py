"""Checkpoints: the last n and the best n by held-out accuracy, each of the run's whole state."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from nft_lightning.checkpoints.folder import CheckpointFolder, complete, name_of, point
from nft_lightning.checkpoints.resumable_logger import resumable
from nft_lightning.checkpoints.run_state import epochs_done, position
from nft_lightning.common.bounds import check_field
from nft_lightning.distributed.preemption import Preempted
from nft_lightning.errors import RunStoppedError
from nft_lightning.training.module import PolicyModule

log = logging.getLogger(__name__)
AREA = "callbacks.checkpoint"
Kept = list[tuple[Path, dict[str, Any]]]


class Checkpoints(Checkpoint):
    """Writes ``run_dir/checkpoints`` between epochs, by the clock within them, and when asked to leave.

    Args:
        run_dir: the run folder.
        monitor: the metric of an evaluation that says which are best, the higher the better.
        every_epochs: how often between epochs; the end is always saved.
        every_minutes: within an epoch, after a rollout or an update, once the last is that old; None
            is never.
        keep_last, keep_best: how many; the others go.
        on_write_error: ``continue`` without (the ones before are still there), or ``stop``.
    """

    def __init__(
        self,
        run_dir: str,
        monitor: str,
        every_epochs: int = 1,
        every_minutes: float | None = 15.0,
        keep_last: int = 2,
        keep_best: int = 1,
        on_write_error: str = "continue",
    ) -> None:
        check_field(f"{AREA}.every_epochs", every_epochs, least=1)
        check_field(f"{AREA}.every_minutes", every_minutes, least=0)
        check_field(f"{AREA}.keep_last", keep_last, least=1)
        check_field(f"{AREA}.keep_best", keep_best, least=0)
        check_field(f"{AREA}.on_write_error", on_write_error, choices=("continue", "stop"))
        self.folder, self.monitor = Path(run_dir) / "checkpoints", monitor
        self.every_epochs, self.every_minutes = every_epochs, every_minutes
        self.keep_last, self.keep_best = keep_last, keep_best
        self.on_write_error = on_write_error
        self.last_time, self.scored_version = time.monotonic(), -1
        self.written = ""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock begins. A kill may have come between a checkpoint and what follows it."""
        self.last_time = time.monotonic()
        if trainer.is_global_zero:
            self.prune()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember which weights have a score."""
        if trainer.state.fn == "fit":
            assert isinstance(pl_module, PolicyModule)
            self.scored_version = pl_module.policy_version

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Between two epochs: the one before is logged, the next rollout is not begun."""
        assert isinstance(pl_module, PolicyModule)
        epochs = epochs_done(trainer)
        between = pl_module.data.progress.pending is None and epochs > 0
        if between and trainer.strategy.broadcast(self.due(trainer, pl_module, epochs)):
            self.save(trainer, pl_module)
        pl_module.data.preemption.check()

    def due(self, trainer: L.Trainer, module: PolicyModule, epochs: int) -> bool:
        """By the calendar, or because these weights are among the best."""
        if epochs % self.every_epochs == 0:
            return True
        score = self.score(trainer, module)
        if score is None or not self.keep_best:
            return False
        scores = (a["score"] for _, a in complete(self.folder) if a["score"] is not None)
        best = sorted(scores, reverse=True)[: self.keep_best]
        return len(best) < self.keep_best or score > best[-1]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The rollout is made."""
        if batch_idx == 0:
            self.within_epoch(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """An update is done."""
        self.within_epoch(trainer, pl_module)

    def within_epoch(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save if it is time to, leave if asked to."""
        assert isinstance(module, PolicyModule)
        if self.every_minutes is not None and self.old_enough(trainer, 60 * self.every_minutes):
            self.save(trainer, module)
        module.data.preemption.check()

    def old_enough(self, trainer: L.Trainer, seconds: float) -> bool:
        """Return whether the last checkpoint is that old, by the clock of the first rank."""
        return bool(trainer.strategy.broadcast(time.monotonic() - self.last_time >= seconds))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The end of training, for a summary that is still to come, or for more epochs."""
        assert isinstance(pl_module, PolicyModule)
        self.save(trainer, pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Save before leaving. After any other exception the state cannot be trusted."""
        if not isinstance(exception, Preempted) or not isinstance(pl_module, PolicyModule):
            return
        if trainer.state.fn == "fit" and trainer.optimizers:
            self.save(trainer, pl_module)
        exception.checkpoint = self.written

    def score(self, trainer: L.Trainer, module: PolicyModule) -> float | None:
        """Return the monitored metric of these very weights, where they were evaluated."""
        evaluated = self.scored_version == module.policy_version
        if not evaluated or self.monitor not in trainer.callback_metrics:
            return None
        return float(trainer.callback_metrics[self.monitor])

    def save(self, trainer: L.Trainer, module: PolicyModule) -> None:
        """Write the state as it is now, unless it is written already; let go of what nobody needs."""
        epochs, updates = position(trainer, module.data)
        path = self.folder / name_of(epochs, updates)
        if trainer.strategy.broadcast(any(path == p for p, _ in complete(self.folder))):
            self.written = str(path)
        else:
            self.write(trainer, module, path, self.about(trainer, module, epochs, updates))

    def about(
        self, trainer: L.Trainer, module: PolicyModule, epochs: int, updates: int | None
    ) -> dict[str, Any]:
        """Return what the manifest says, so that a resumed run knows where its files were."""
        logs = {name: logger.position() for name, logger in resumable(trainer.loggers).items()}
        score = self.score(trainer, module) if updates is None else None
        ranks = trainer.world_size
        return {"epochs": epochs, "updates": updates, "score": score, "ranks": ranks, "logs": logs}

    def write(self, trainer: L.Trainer, module: PolicyModule, path: Path, about: dict[str, Any]) -> None:
        """Save through Lightning, prune, and log size and seconds; a full disk is met by the rule."""
        started = time.perf_counter()
        try:
            trainer.save_checkpoint(path, storage_options=about)
            if trainer.is_global_zero:
                self.prune()
        except OSError as error:
            if self.on_write_error == "stop":
                raise RunStoppedError(f"{error}; callbacks.checkpoint.on_write_error is stop") from error
            log.warning("%s; the run continues, the checkpoints before are untouched", error)
            # Only the rank that writes gets here, and the others wait for it behind the write.
            trainer.strategy.barrier()
            return
        finally:
            self.last_time = time.monotonic()
        io = trainer.strategy.checkpoint_io
        size = io.last_bytes if isinstance(io, CheckpointFolder) else 0
        module.timer.seconds["checkpoint"] += time.perf_counter() - started
        module.timer.gauges["checkpoint/bytes"] = float(size)
        self.written = str(path)

    def prune(self) -> None:
        """Keep the last and the best, and name them by links."""
        found: Kept = list(complete(self.folder))
        if not found:
            return
        scored = sorted((p for p in found if p[1]["score"] is not None), key=lambda p: -p[1]["score"])
        keep = {p for p, _ in (*found[-self.keep_last :], *scored[: self.keep_best])}
        point(self.folder / "last", found[-1][0])
        if scored[: self.keep_best]:
            point(self.folder / "best", scored[0][0])
        for path, _ in found:
            if path not in keep:
                CheckpointFolder().remove_checkpoint(path)
