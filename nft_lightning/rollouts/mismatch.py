"""How far the engine's log-probabilities are from the trainer's, before any correction."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nft_lightning.common.precise import wide


@dataclass
class Mismatch:
    """Adds up over the micro-batches of an epoch, where the log-probabilities are.

    ``moments`` [6]: tokens, and the sums of |d|, exp(|d|), exp(d), exp(2 d) and k3, where d is the
    trainer's log-probability of a sampled token under the policy that wrote it, minus the engine's.
    """

    moments: Tensor = field(default_factory=lambda: torch.zeros(6, dtype=torch.float64))
    largest: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, trainer: Tensor, engine: Tensor, mask: Tensor) -> None:
        """Log-probabilities [B, T] of the same tokens; ``mask`` [B, T] bool."""
        d = wide(torch.where(mask, trainer.detach() - engine, 0.0))
        there = wide(mask)
        ratio = d.clamp(max=20.0).exp()
        parts = (
            torch.ones_like(d),
            d.abs(),
            d.abs().clamp(max=20.0).exp(),
            ratio,
            ratio**2,
            ratio - 1 - d,
        )
        moments = torch.stack([(p * there).sum() for p in parts])
        # Never in place: who keeps the sums from before has them unchanged.
        self.moments = self.moments.to(d.device) + moments
        self.largest = torch.maximum(self.largest.to(d.device), d.abs().max())


def mismatch_metrics(moments: Tensor, largest: Tensor) -> dict[str, float]:
    """Return the metrics of an epoch from sums over all ranks, and the largest gap of any."""
    tokens, gap, multiplied, ratios, squares, divergence = moments.tolist()
    if not tokens:
        return {}
    return {
        "mismatch/logprob_gap_mean": gap / tokens,
        "mismatch/logprob_gap_max": float(largest),
        "mismatch/token_mult_prob_error": multiplied / tokens,
        "mismatch/effective_sample_fraction": ratios**2 / (tokens * squares),
        "mismatch/kl_engine_trainer": divergence / tokens,
    }
