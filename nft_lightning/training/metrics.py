"""What an epoch's metrics are added up from: exact over micro-batches, ranks and interruptions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor

from nft_lightning.common.precise import exact, sent
from nft_lightning.objectives.diagnostics import summarise
from nft_lightning.rollouts.mismatch import Mismatch, mismatch_metrics
from nft_lightning.training.private_lightning import batches_stepped

Reduce = Callable[..., Any]


def log_step(trainer: L.Trainer, metrics: dict[str, float]) -> None:
    """Give the loggers the metrics of the batch in training, every ``log_every_n_steps`` of them."""
    step = batches_stepped(trainer)
    if not trainer.log_every_n_steps or (step + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
        return
    for logger in trainer.loggers:
        logger.log_metrics({**metrics, "epoch": trainer.current_epoch}, step=step)
        logger.save()


class EpochMetrics:
    """(sum, count) pairs by name, histograms, and the gap between engine and trainer."""

    def __init__(self) -> None:
        self.sums: dict[str, list[Tensor]] = defaultdict(list)
        self.tallies: dict[str, Tensor] = {}
        self.mismatch = Mismatch()

    def note(self, name: str, total: Tensor, count: Tensor) -> None:
        """Add a (sum, count) pair; count 0 makes the metric a plain sum."""
        pair = torch.stack([total.detach().float().cpu(), count.detach().float().cpu()])
        self.sums[name].append(pair)

    def tally(self, name: str, found: Tensor) -> None:
        """Add a histogram."""
        found = exact(found)
        self.tallies[name] = self.tallies[name] + found if name in self.tallies else found

    def reduced(self, reduce: Reduce, device: torch.device, world_size: int) -> dict[str, float]:
        """Return the epoch's metrics: sums over micro-batches and ranks, then one division."""
        logged: dict[str, float] = {}
        for name in sorted(self.sums):
            pair = reduce(torch.stack(self.sums[name]).sum(0).to(device), reduce_op="sum")
            total, count = pair.tolist()
            logged[name] = total / count if count else total
        if "objective/loss" in logged:
            logged["objective/loss"] *= world_size
        for name in sorted(self.tallies):
            tally = reduce(sent(self.tallies[name], device), reduce_op="sum")
            logged.update({f"objective/{k}": v for k, v in summarise(name, tally).items()})
        moments = reduce(sent(self.mismatch.moments, device), reduce_op="sum")
        largest = reduce(sent(self.mismatch.largest, device), reduce_op="max")
        logged.update(mismatch_metrics(moments, largest))
        return logged

    def state_dict(self) -> dict[str, Any]:
        """Return all that was added since the epoch began."""
        return {
            "sums": {name: torch.stack(pairs) for name, pairs in self.sums.items()},
            "tallies": dict(self.tallies),
            "moments": self.mismatch.moments.clone(),
            "largest": self.mismatch.largest.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave."""
        self.sums = defaultdict(list)
        self.sums.update({name: list(pairs) for name, pairs in state["sums"].items()})
        self.tallies = dict(state["tallies"])
        self.mismatch = Mismatch(state["moments"].clone(), state["largest"].clone())
