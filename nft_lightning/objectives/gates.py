"""A bound on each token's weight instead of PPO's minimum: CISPO, SAPO, DPPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.common.bounds import bounded
from nft_lightning.objectives.group import GroupRelative
from nft_lightning.objectives.grpo import GRPO
from nft_lightning.objectives.options import NO_CLIP, OWN_WEIGHT
from nft_lightning.objectives.tensors import masked_pair, widen
from nft_lightning.types import TokenLoss

DIVERGENCES = ("tv", "kl")


@dataclass(frozen=True, kw_only=True)
class CISPO(GRPO):
    """Clipped importance-sampling weights: ``-sg(clip(R, 1 - clip_low, 1 + clip_high)) A log pi``.

    No token loses its gradient; only its weight is bounded. The default bounds R from above, at 5.

    Right: ``sqrt((1-r)/r) clip(R, 1-clip_low, 1+clip_high)``
    Wrong: ``-sqrt(r/(1-r)) clip(R, 1-clip_low, 1+clip_high)``
    Source: arXiv 2506.13585; the bound of 5 from arXiv 2510.13786
    """

    unsupported_options: ClassVar[Mapping[str, str]] = {
        "dual_clip": "bounds the weight of both signs already",
        "prompt_weight": OWN_WEIGHT,
    }
    clip_low: float = 1.0
    clip_high: float = 4.0

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        ratio = self.ratio(logprobs.detach(), old_logprobs)[1]
        advantage = signal["advantage"].to(ratio)[:, None]
        low, high = 1 - self.clip_low, 1 + self.clip_high
        loss = -ratio.clamp(low, high) * advantage * widen(logprobs)
        return TokenLoss(
            loss,
            {
                "clipped_high_fraction": masked_pair((ratio > high).to(ratio), mask),
                "clipped_low_fraction": masked_pair((ratio < low).to(ratio), mask),
            },
        )


@dataclass(frozen=True, kw_only=True)
class SAPO(GroupRelative):
    """Soft Adaptive Policy Optimization: a sigmoid in place of the clipped ratio (Eqs. 5 and 6).

    ``-f(R) A`` with ``f(R) = sigmoid(tau (R - 1)) 4 / tau``; tau is ``temperature_positive`` where
    A > 0 and ``temperature_negative`` elsewhere. The gradient fades as R leaves 1 on either side.
    Below, ``p = sigmoid(tau (R - 1))``, so that 4 p (1-p) is 1 on policy:

    Right: ``4 p (1-p) sqrt((1-r)/r) R``
    Wrong: ``-4 p (1-p) sqrt(r/(1-r)) R``
    Source: arXiv 2511.20347

    Attributes:
        temperature_positive, temperature_negative: tau_pos and tau_neg; the larger, the narrower.
    """

    unsupported_options: ClassVar[Mapping[str, str]] = {
        "dual_clip": NO_CLIP,
        "prompt_weight": OWN_WEIGHT,
    }
    temperature_positive: float = bounded(1.0, above=0, finite=True, use="1.0")
    temperature_negative: float = bounded(1.05, above=0, finite=True, use="1.05")

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        ratio = self.ratio(logprobs, old_logprobs)[1]
        advantage = signal["advantage"].to(ratio)[:, None]
        positive = torch.full_like(advantage, self.temperature_positive)
        negative = torch.full_like(advantage, self.temperature_negative)
        tau = torch.where(advantage > 0, positive, negative)
        return TokenLoss(-torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantage)


@dataclass(frozen=True, kw_only=True)
class DPPO(GroupRelative):
    """Divergence Proximal Policy Optimization, binary: a mask on probabilities, not on their ratio.

    ``-M R A``. M is 0 where the token has moved on in the direction of A, and the divergence D of
    "this token or any other" between the policy that wrote it (m) and the trained one (p) is above
    its limit: ``|m - p|`` (tv, Eq. 13) or ``m log(m/p) + (1-m) log((1-m)/(1-p))`` (kl, Eq. 14).

    Right: ``sqrt((1-r)/r) R [R <= 1 or D <= limit_high]``
    Wrong: ``-sqrt(r/(1-r)) R [R >= 1 or D <= limit_low]``
    Source: arXiv 2602.04879

    Attributes:
        divergence: ``tv`` or ``kl``.
        limit_low, limit_high: delta where A < 0 and where A > 0.
    """

    unsupported_options: ClassVar[Mapping[str, str]] = {
        "dual_clip": NO_CLIP,
        "prompt_weight": OWN_WEIGHT,
    }
    divergence: str = bounded("tv", choices=DIVERGENCES)
    limit_low: float = bounded(0.15, above=0, finite=True, use="0.15 (tv) or 0.05 (kl)")
    limit_high: float = bounded(0.15, above=0, finite=True, use="0.15 (tv) or 0.05 (kl)")

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio, ratio = self.ratio(logprobs, old_logprobs)
        now = widen(logprobs).detach()
        apart = binary_divergence(now - log_ratio.detach(), now, self.divergence)
        advantage = signal["advantage"].to(ratio)[:, None]
        above = (advantage > 0) & (log_ratio > 0) & (apart > self.limit_high)
        below = (advantage < 0) & (log_ratio < 0) & (apart > self.limit_low)
        return TokenLoss(
            -(ratio * ~(above | below)) * advantage,
            {
                "clipped_high_fraction": masked_pair(above.to(ratio), mask),
                "clipped_low_fraction": masked_pair(below.to(ratio), mask),
            },
        )


def binary_divergence(old: Tensor, new: Tensor, kind: str) -> Tensor:
    """Return the divergence of "this token or any other", ``tv`` or ``kl``, from log-probabilities."""
    m, p = old.exp(), new.exp()
    if kind == "tv":
        return (m - p).abs()
    others, others_now = (1 - m).clamp(min=1e-8), (1 - p).clamp(min=1e-8)
    return m * (old - new) + others * (others.log() - others_now.log())
