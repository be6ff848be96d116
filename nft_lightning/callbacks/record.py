"""Every rollout in Parquet: one row a completion."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pyarrow as pa
import pyarrow.parquet as pq

from nft_lightning.logs import check_write_rule, written
from nft_lightning.module import PolicyModule
from nft_lightning.types import Rollout


class RolloutRecord(L.Callback):
    """Writes ``rollouts/epoch_NNNN.parquet`` in the run folder after each epoch.

    Args:
        on_write_error: ``continue`` without the epoch's file, or ``stop``.
    """

    def __init__(self, on_write_error: str = "continue") -> None:
        self.rule = check_write_rule(on_write_error, "callbacks.record.on_write_error")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write this epoch's rollout to a temporary name, then rename it."""
        assert isinstance(pl_module, PolicyModule)
        rollout = pl_module.data.rollout
        if not trainer.is_global_zero or rollout is None:
            return
        path = rollout_file(trainer.default_root_dir, trainer.current_epoch)
        partial = path.with_suffix(".tmp")
        with written(path, self.rule):
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table(rollout, trainer.current_epoch), partial, compression="zstd")
            partial.replace(path)


def rollout_file(run_dir: str | Path, epoch: int) -> Path:
    """Where the rollout of an epoch is recorded."""
    return Path(run_dir) / "rollouts" / f"epoch_{epoch:04d}.parquet"


def table(rollout: Rollout, epoch: int) -> pa.Table:
    """The kept groups as rows."""
    rows = [
        {
            "epoch": epoch,
            "policy_version": completion.policy_version,
            "problem_id": group.problem.id,
            "problem": group.problem.text,
            "gold": group.problem.answer,
            "prompt_accuracy": group.accuracy,
            "sample": k,
            "completion": completion.text,
            "verdict": verdict.outcome,
            "extracted": verdict.extracted,
            "reward": reward,
            "length_tokens": len(completion.token_ids),
            "truncated": completion.truncated,
            "token_ids": list(completion.token_ids),
            "engine_logprobs": list(completion.logprobs),
        }
        for group in rollout.groups
        for k, (completion, verdict, reward) in enumerate(
            zip(group.completions, group.verdicts, group.rewards, strict=True)
        )
    ]
    schema = pa.schema(
        [
            ("epoch", pa.int32()),
            ("policy_version", pa.int64()),
            ("problem_id", pa.string()),
            ("problem", pa.string()),
            ("gold", pa.string()),
            ("prompt_accuracy", pa.float32()),
            ("sample", pa.int32()),
            ("completion", pa.string()),
            ("verdict", pa.string()),
            ("extracted", pa.string()),
            ("reward", pa.float32()),
            ("length_tokens", pa.int32()),
            ("truncated", pa.bool_()),
            ("token_ids", pa.list_(pa.int32())),
            ("engine_logprobs", pa.list_(pa.float32())),
        ]
    )
    return pa.Table.from_pylist(rows, schema)
