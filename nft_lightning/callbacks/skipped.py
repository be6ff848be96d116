"""The rows of an update whose loss or gradient was not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from nft_lightning.records.writing import check_write_rule, written
from nft_lightning.training.module import PolicyModule
from nft_lightning.types import OptimizerBatch


class SkippedRows(L.Callback):
    """Writes ``skipped/epoch_NNNN_update_NNNN.parquet`` for each update that was left out.

    A row is a completion with its own loss, summed by token weight, which of them can be blamed for
    where it is not finite; where all are finite only the gradient was not.
    """

    def __init__(self, on_write_error: str = "continue") -> None:
        self.rule = check_write_rule(on_write_error, "callbacks.skipped.on_write_error")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what was skipped, if anything was."""
        assert isinstance(pl_module, PolicyModule) and isinstance(batch, OptimizerBatch)  # noqa: PT018
        if not pl_module.skipped_in_a_row or not batch.micro_batches:
            return
        name = f"epoch_{trainer.current_epoch:04d}_update_{batch.step_in_epoch:04d}"
        rank = f"_rank_{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = Path(trainer.default_root_dir) / "skipped" / f"{name}{rank}.parquet"
        rows = rows_of(trainer, pl_module, batch)
        with written(path, self.rule):
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


@torch.no_grad()
def rows_of(trainer: L.Trainer, module: PolicyModule, batch: OptimizerBatch) -> list[dict[str, Any]]:
    """Return one dictionary a completion."""
    found = []
    for micro in batch.micro_batches:
        with trainer.precision_plugin.train_step_context():
            out, tokens = module.token_loss(module.objective, micro)
        losses = (tokens.loss * micro.token_weight).sum(1).tolist()
        finite = torch.isfinite(out.logprobs).all(1).tolist()
        for i, loss in enumerate(losses):
            real = micro.attention_mask[i].bool()
            ids = micro.input_ids[i][real].tolist()
            found.append(
                {
                    "policy_version": module.policy_version,
                    "update": batch.step_in_epoch,
                    "loss": loss,
                    "finite_logprobs": finite[i],
                    "text": module.policy.tokenizer.decode(ids),
                    "token_ids": ids,
                    **{
                        f"signal_{k}": number_or_list(v[i], micro.mask[i])
                        for k, v in micro.signal.items()
                    },
                }
            )
    return found


def number_or_list(value: torch.Tensor, mask: torch.Tensor) -> float | list[float]:
    """Return the number of a completion, or those of its tokens, where ``mask`` [T] is true."""
    return float(value) if value.dim() == 0 else value[mask].tolist()
