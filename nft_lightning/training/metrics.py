"""What an epoch's metrics are added up from: exact over micro-batches, ranks and interruptions.

The sums are where the numbers are made, and nobody waits for them before the end of an update.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from nft_lightning.common.precise import exact, sent, wide
from nft_lightning.objectives.diagnostics import gradient_pair, summarise
from nft_lightning.rollouts.mismatch import Mismatch, mismatch_metrics
from nft_lightning.training.private_lightning import batches_stepped
from nft_lightning.types import TokenBatch, TokenLoss

Reduce = Callable[..., Any]


def log_step(trainer: L.Trainer, metrics: dict[str, float]) -> None:
    """Give the loggers the metrics of the batch in training, every ``log_every_n_steps`` of them."""
    step = batches_stepped(trainer)
    if not trainer.log_every_n_steps or (step + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
        return
    for logger in trainer.loggers:
        logger.log_metrics({**metrics, "epoch": trainer.current_epoch}, step=step)
        logger.save()


class UpdateSums:
    """This rank's part of an update: its loss, the sum and the number of its tokens' entropies."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(4, device=device)

    def add(self, loss: Tensor, entropy: Tensor, tokens: Tensor) -> None:
        """Add those of a micro-batch."""
        broken = ~torch.isfinite(loss.detach())
        self.sums += torch.stack([x.detach().float() for x in (broken, loss, entropy, tokens)])

    def reduced(self, reduce: Reduce) -> tuple[float, float, bool]:
        """Return over all ranks the loss, the mean entropy, and whether every loss is finite."""
        broken, loss, entropy, tokens = reduce(self.sums, reduce_op="sum").tolist()
        return loss, entropy / max(1.0, tokens), not broken


@dataclass(frozen=True)
class Kept:
    """What an epoch's metrics were at some time."""

    sums: dict[str, tuple[Tensor, Tensor]]
    tallies: dict[str, Tensor]
    moments: Tensor
    largest: Tensor


class EpochMetrics:
    """(sum, count) pairs by name, histograms, and the gap between engine and trainer.

    Attributes:
        noted: pairs of the update in progress, as they came. sums: those of the updates before, in
            float64. tallies: histograms, as wide.
    """

    def __init__(self) -> None:
        self.noted: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self.sums: dict[str, tuple[Tensor, Tensor]] = {}
        self.tallies: dict[str, Tensor] = {}
        self.mismatch = Mismatch()
        self.ended: dict[str, float] | None = None

    def note(self, name: str, total: Tensor, count: Tensor) -> None:
        """Add a (sum, count) pair; count 0 makes the metric a plain sum."""
        self.noted[name].append((total.detach(), count.detach()))

    def settle(self) -> None:
        """Add up what was noted; nothing is moved or waited for where the device has float64."""
        for name, pairs in self.noted.items():
            total, count = (wide(torch.stack(part)).sum() for part in zip(*pairs, strict=True))
            if name in self.sums:
                earlier_total, earlier_count = self.sums[name]
                # Only what a checkpoint gave is elsewhere.
                total = earlier_total.to(total.device) + total
                count = earlier_count.to(count.device) + count
            self.sums[name] = total, count
        self.noted.clear()

    def kept(self) -> Kept:
        """Return what was added so far, for :meth:`go_back`; sums are never changed in place."""
        self.settle()
        return Kept(dict(self.sums), dict(self.tallies), self.mismatch.moments, self.mismatch.largest)

    def go_back(self, kept: Kept) -> None:
        """Forget what was added after :meth:`kept`."""
        self.noted.clear()
        self.sums, self.tallies = dict(kept.sums), dict(kept.tallies)
        self.mismatch = Mismatch(kept.moments, kept.largest)

    def add(
        self,
        micro: TokenBatch,
        tokens: TokenLoss,
        loss: Tensor,
        entropy: tuple[Tensor, Tensor],
        *,
        last: bool,
        padded: bool,
    ) -> None:
        """Add what a micro-batch is like.

        Args:
            tokens: what the objective said of it. loss: its part of the update's.
            entropy: the sum and the number of its tokens' entropies.
            last: of its update, which counts once. padded: padding was computed, too.
        """
        real = micro.attention_mask.sum()
        computed = torch.full_like(real, micro.attention_mask.numel()) if padded else real
        self.note("batching/padding_fraction", computed - real, computed)
        self.note("objective/loss", loss.detach(), torch.tensor(1.0 if last else 0.0))
        self.note("policy/entropy_nats", *entropy)
        for name, pair in tokens.metrics.items():
            self.note(f"objective/{name}", *pair)
        for name, tally in tokens.sums.items():
            self.tally(name, tally)

    def note_step(self, norm: Tensor, made: bool, *, first_rank: bool) -> None:
        """Add an optimizer step, or that it was left out, which all ranks do together: the first counts.

        Args:
            norm: of the gradient, before it was clipped.
        """
        one = torch.tensor(1.0)
        self.note("optimizer/skipped_updates", one * (not made and first_rank), torch.tensor(0.0))
        if made:
            self.note("optimizer/gradient_norm", norm.detach(), one)

    def watch_gradient(self, logprobs: Tensor, micro: TokenBatch) -> None:
        """Note, in the backward pass, how much of the gradient comes from wrong answers."""

        def note(gradient: Tensor) -> None:
            pair = gradient_pair(gradient, micro.mask, micro.signal["reward"] > 0)
            self.note("objective/wrong_gradient_fraction", *pair)

        logprobs.register_hook(note)

    def tally(self, name: str, found: Tensor) -> None:
        """Add a histogram."""
        found = wide(found)
        if name in self.tallies:
            found = self.tallies[name].to(found.device) + found
        self.tallies[name] = found

    def reduced(self, reduce: Reduce, device: torch.device, world_size: int) -> dict[str, float]:
        """Return the epoch's metrics: sums over micro-batches and ranks, then one division.

        The first call is collective and ends the sums: callbacks see the end of an epoch before the
        module does.
        """
        if self.ended is None:
            self.ended = self.divided(reduce, device, world_size)
        return self.ended

    def divided(self, reduce: Reduce, device: torch.device, world_size: int) -> dict[str, float]:
        """See :meth:`reduced`."""
        self.settle()
        logged: dict[str, float] = {}
        names = sorted(self.sums)
        if names:
            pairs = torch.stack([sent(x, device) for name in names for x in self.sums[name]])
            added = reduce(pairs.view(-1, 2), reduce_op="sum").tolist()
            for name, (total, count) in zip(names, added, strict=True):
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
        """Return all that was added since the epoch began, on the host."""
        self.settle()
        return {
            "sums": {name: torch.stack([exact(x) for x in pair]) for name, pair in self.sums.items()},
            "tallies": {name: exact(tally) for name, tally in self.tallies.items()},
            "moments": exact(self.mismatch.moments),
            "largest": exact(self.mismatch.largest),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""
        self.noted.clear()
        self.sums = {}
        for name, pairs in state["sums"].items():
            # Earlier versions saved one pair for each micro-batch.
            total, count = pairs.double().view(-1, 2).sum(0)
            self.sums[name] = total, count
        self.tallies = dict(state["tallies"])
        self.mismatch = Mismatch(state["moments"], state["largest"])
