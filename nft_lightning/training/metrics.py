"""What an epoch's metrics are added up from: exact over micro-batches, ranks and interruptions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor

from nft_lightning.common.precise import exact, sent
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
        self.sums = torch.zeros(3, device=device)
        self.finite = True

    def add(self, loss: Tensor, entropy: Tensor, tokens: Tensor) -> None:
        """Add those of a micro-batch."""
        self.finite = self.finite and bool(torch.isfinite(loss))
        self.sums += torch.stack([loss, entropy, tokens]).detach().float()

    def reduced(self, reduce: Reduce) -> tuple[float, float, bool]:
        """Return over all ranks the loss, the mean entropy, and whether every loss is finite."""
        wrong = torch.tensor([float(not self.finite)], device=self.sums.device)
        broken, loss, entropy, tokens = reduce(torch.cat([wrong, self.sums]), reduce_op="sum").tolist()
        return loss, entropy / max(1.0, tokens), not broken


class EpochMetrics:
    """(sum, count) pairs by name, histograms, and the gap between engine and trainer."""

    def __init__(self) -> None:
        self.sums: dict[str, list[Tensor]] = defaultdict(list)
        self.tallies: dict[str, Tensor] = {}
        self.mismatch = Mismatch()
        self.ended: dict[str, float] | None = None

    def note(self, name: str, total: Tensor, count: Tensor) -> None:
        """Add a (sum, count) pair; count 0 makes the metric a plain sum."""
        pair = torch.stack([total.detach().float().cpu(), count.detach().float().cpu()])
        self.sums[name].append(pair)

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
        real = micro.attention_mask.sum().cpu()
        computed = torch.tensor(micro.attention_mask.numel()) if padded else real
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
        found = exact(found)
        self.tallies[name] = self.tallies[name] + found if name in self.tallies else found

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
