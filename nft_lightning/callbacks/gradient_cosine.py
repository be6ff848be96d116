"""How far two algorithms agree, on the batches of the run: the cosine of their gradients."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from nft_lightning.batching.minibatch import check_minibatch_unit, resolve_minibatch_unit
from nft_lightning.common.bounds import check_field
from nft_lightning.common.precise import widest
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective
from nft_lightning.rollouts.serialized import pack_batch, unpack_batch
from nft_lightning.training.module import PolicyModule
from nft_lightning.types import OptimizerBatch


class GradientCosine(L.Callback):
    """Every ``every_epochs`` epochs, before each update: the cosine of two objectives' gradients.

    Both see the same rollout, cut alike, from the current policy; training is not touched. On the
    first update NFT and GRPO agree exactly (arXiv 2505.18116, Prop. 4.2) and part as the rollout
    grows stale. Logs ``gradient/cosine_first_update`` and ``gradient/cosine_last_update`` and
    writes every update to ``gradient_cosine.csv``.

    Args:
        first, second: the two objectives; they may need old and reference log-probabilities and
            whole groups, but no value head and no reference solutions.
        every_epochs: how often; the first epoch is always measured.
    """

    def __init__(self, first: Objective, second: Objective, every_epochs: int = 1) -> None:
        check_field("callbacks.gradient_cosine.every_epochs", every_epochs, least=1)
        for objective in (first, second):
            needs = objective.needed_inputs
            if needs.values or needs.references or needs.reference_logprobs:
                raise UserError(
                    "callbacks.gradient_cosine",
                    type(objective).__name__,
                    "needs more than the sampled rollout",
                    "compare objectives such as NFT, GRPO, GSPO or DPO without a reference KL",
                )
        self.objectives, self.every_epochs = (first, second), every_epochs
        self.batches: list[Sequence[OptimizerBatch]] = []
        self.rows: list[tuple[int, int, float]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Raise UserError where an objective does not fit the run's batches."""
        assert isinstance(pl_module, PolicyModule)
        unit = resolve_minibatch_unit(pl_module.data.batching.minibatch_unit, pl_module.objective)
        for objective in self.objectives:
            check_minibatch_unit(unit, objective, "callbacks.gradient_cosine")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure on the batch that is about to be trained on."""
        assert isinstance(pl_module, PolicyModule)
        if trainer.current_epoch % self.every_epochs:
            return
        if batch_idx == 0:
            self.lay_out(trainer, pl_module)
        if not batch.micro_batches or batch_idx >= min(map(len, self.batches), default=0):
            return
        a, b = (
            gradient(trainer, pl_module, objective, batches[batch_idx])
            for objective, batches in zip(self.objectives, self.batches, strict=True)
        )
        # fp32 sums over millions of parameters would hide the last digits.
        wide = widest(a.device)
        a, b = a.to(wide), b.to(wide)
        size = a.norm() * b.norm()
        # After a resume the update that comes next may have been measured already.
        self.rows = [row for row in self.rows if row[:2] != (trainer.current_epoch, batch_idx)]
        if size > 0:
            self.rows.append((trainer.current_epoch, batch_idx, float(a @ b / size)))

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured, and the batches of this epoch as each objective sees them."""
        packed = [[pack_batch(batch) for batch in batches] for batches in self.batches]
        return {"rows": list(self.rows), "batches": packed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with what was saved."""
        self.rows = [tuple(row) for row in state_dict["rows"]]
        self.batches = [[unpack_batch(p) for p in packed] for packed in state_dict["batches"]]

    def lay_out(self, trainer: L.Trainer, module: PolicyModule) -> None:
        """The epoch's rollout as each objective sees it; the policy is still the one that wrote it."""
        data, rollout = module.data, module.data.progress.rollout
        self.batches = []
        if rollout is None or not rollout.groups:
            return
        maker, index = data.batch_maker, data.progress.rollout_index - 1
        with torch.no_grad(), trainer.precision_plugin.train_step_context():
            for objective in self.objectives:
                cut = maker.laid_out(rollout, objective, index, trainer.global_rank, trainer.world_size)
                self.batches.append([maker.completed(batch, objective, module) for batch in cut])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the first and the last update of the epoch, and append all of them to the file."""
        found = [row for row in self.rows if row[0] == trainer.current_epoch]
        self.batches = []
        if not found:
            return
        for name, row in (("first_update", found[0]), ("last_update", found[-1])):
            pl_module.log(f"gradient/cosine_{name}", row[2], rank_zero_only=True)
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "gradient_cosine.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("epoch", "update", "cosine"))
            writer.writerows(self.rows)


def gradient(
    trainer: L.Trainer, module: PolicyModule, objective: Objective, batch: OptimizerBatch
) -> Tensor:
    """Return [P], over all ranks; no ``.grad`` is touched and no random number drawn."""
    parameters = [p for p in module.policy.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), device=module.device)
    for micro in batch.to(module.device).micro_batches:
        with torch.enable_grad(), trainer.precision_plugin.train_step_context():
            tokens = module.token_loss(objective, micro)[1]
            loss = (tokens.loss * micro.token_weight).sum()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        total += torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten().to(total)
                for g, p in zip(found, parameters, strict=True)
            ]
        )
    reduced = trainer.strategy.reduce(total, reduce_op="sum")
    assert isinstance(reduced, Tensor)
    return reduced
