"""Every rollout and every evaluation in Parquet: one row per completion."""

from __future__ import annotations

import json
import time
from pathlib import Path

import lightning as L
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.trainer.states import TrainerFn

from nft_lightning.common.files import written_whole
from nft_lightning.records.writing import check_write_rule, written
from nft_lightning.rollouts.table import TOKENS, answers, rollout_file
from nft_lightning.training.module import PolicyModule


class RolloutRecord(L.Callback):
    """Writes ``rollouts/epoch_NNNN.parquet`` in the run folder after each epoch.

    Args:
        on_write_error: ``continue`` without the epoch's file, or ``stop``.
    """

    def __init__(self, on_write_error: str = "continue") -> None:
        self.rule = check_write_rule(on_write_error, "callbacks.record.on_write_error")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The kept groups of this epoch, with their tokens."""
        assert isinstance(pl_module, PolicyModule)
        rollout = pl_module.data.progress.rollout
        if not trainer.is_global_zero or rollout is None:
            return
        epoch = trainer.current_epoch
        made = answers(rollout.groups, TOKENS).add_column(
            0, "epoch", pa.array([epoch] * len(rollout.rewards), pa.int32())
        )
        path = rollout_file(trainer.default_root_dir, epoch)
        with written(path, self.rule):
            write(made, path)


class EvaluationRecord(L.Callback):
    """Writes ``evaluations/update_NNNNNN.parquet`` at each evaluation: what was answered, and when.

    Each rank writes the problems it answered. The file's metadata holds ``axes``: epochs, updates,
    problems, completions and tokens of training so far, and the seconds spent on it, evaluations apart.

    Args:
        on_write_error: ``continue`` without the evaluation's file, or ``stop``.
    """

    def __init__(self, on_write_error: str = "continue") -> None:
        self.rule = check_write_rule(on_write_error, "callbacks.evaluations.on_write_error")
        self.seconds = 0.0
        self.started: float | None = None

    def pause(self) -> None:
        """Add what has passed since the clock was started, and stop it."""
        if self.started is not None:
            self.seconds += time.perf_counter() - self.started
        self.started = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Training time begins."""
        self.started = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluations are no training time."""
        self.pause()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, then let the clock continue."""
        assert isinstance(pl_module, PolicyModule)
        data = pl_module.data
        if not trainer.sanity_checking:
            fitting = trainer.state.fn == TrainerFn.FITTING
            axes = {
                "epochs": trainer.current_epoch + fitting,  # those that are over
                "updates": pl_module.policy_version,
                "problems": data.progress.cursor,
                "completions": data.progress.completions,
                "tokens": data.progress.tokens,
                "seconds": self.seconds,
            }
            rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
            name = f"update_{pl_module.policy_version:06d}{rank}.parquet"
            made = answers(data.last_evaluation).replace_schema_metadata({"axes": json.dumps(axes)})
            path = Path(trainer.default_root_dir) / "evaluations" / name
            with written(path, self.rule):
                write(made, path)
        if trainer.state.fn == TrainerFn.FITTING:
            self.started = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Training time ends."""
        self.pause()

    def state_dict(self) -> dict[str, float]:
        """Return the clock, so that a resumed run continues counting."""
        running = 0.0 if self.started is None else time.perf_counter() - self.started
        return {"seconds": self.seconds + running}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Set the clock to where the saved run stood."""
        self.seconds = state_dict["seconds"]


def write(table: pa.Table, path: Path) -> None:
    """Save a table in one piece."""
    with written_whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")
