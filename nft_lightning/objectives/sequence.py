"""One weight per sequence: GSPO, LUSPO, GMPO, VESPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.common.bounds import bounded
from nft_lightning.objectives.clipped import clipped_loss
from nft_lightning.objectives.group import GroupRelative
from nft_lightning.objectives.grpo import GRPO
from nft_lightning.objectives.options import NO_CLIP, OWN_WEIGHT
from nft_lightning.objectives.tensors import masked_pair, sequence_sum, tokens_of, widen
from nft_lightning.types import TokenLoss


@dataclass(frozen=True, kw_only=True)
class GSPO(GRPO):
    """Group Sequence Policy Optimization: GRPO on the length-normalised ratio of the sequence.

    ``s = exp(mean_t log R_t)`` takes R's place; each token of a row holds the row's loss, so that
    ``sequence_mean`` gives the published mean over sequences.

    Right: ``sqrt((1-r)/r) s [s < 1+clip_high]``
    Wrong: ``-sqrt(r/(1-r)) s [s > 1-clip_low]``
    Source: arXiv 2507.18071
    """

    clip_low: float = 3e-4
    clip_high: float = 4e-4

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio = self.ratio(logprobs, old_logprobs)[0]
        mean = sequence_sum(log_ratio, mask) / tokens_of(mask)
        ratio = mean.clamp(max=self.max_log_ratio).exp().expand_as(log_ratio)
        advantage = signal["advantage"].to(ratio)[:, None]
        return clipped_loss(ratio, advantage, mask, self.clip_low, self.clip_high, self.dual_clip)


@dataclass(frozen=True, kw_only=True)
class LUSPO(GSPO):
    """Length-Unbiased Sequence Policy Optimization: GSPO times the sequence's length T.

    With ``sequence_mean``, as published, the loss is ``1/N sum_i T_i min(s A, clip(s) A)``.

    Right: ``T sqrt((1-r)/r) s [s < 1+clip_high]``
    Wrong: ``-T sqrt(r/(1-r)) s [s > 1-clip_low]``
    Source: arXiv 2602.05261
    """

    clip_low: float = 2e-3
    clip_high: float = 2.5e-3

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        made = super().token_loss(logprobs, old_logprobs, mask, signal)
        return replace(made, loss=made.loss * tokens_of(mask))


@dataclass(frozen=True, kw_only=True)
class GMPO(GroupRelative):
    """Geometric-Mean Policy Optimization: the geometric mean of clipped token ratios.

    ``-g A`` with ``g = exp(mean_t log R'_t)``; log R' is log R clipped in PPO's one-sided way: at
    most ``log_clip_high`` where A > 0, at least ``-log_clip_low`` where A < 0. Clipping comes
    before the mean, so that a clipped token loses its gradient and the others keep theirs.

    Right: ``sqrt((1-r)/r) g [log R < log_clip_high]``
    Wrong: ``-sqrt(r/(1-r)) g [log R > -log_clip_low]``
    Source: arXiv 2507.20673

    Attributes:
        log_clip_low, log_clip_high: bounds of log R; published as (e^-0.4, e^0.4) for R.
    """

    unsupported_options: ClassVar[Mapping[str, str]] = {
        "dual_clip": "bounds the ratio's logarithm",
        "prompt_weight": OWN_WEIGHT,
    }
    log_clip_low: float = bounded(0.4, above=0, finite=True, use="0.4")
    log_clip_high: float = bounded(0.4, above=0, finite=True, use="0.4")

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio = self.ratio(logprobs, old_logprobs)[0]
        advantage = signal["advantage"].to(log_ratio)[:, None]
        high, low = log_ratio.clamp(max=self.log_clip_high), log_ratio.clamp(min=-self.log_clip_low)
        clipped = torch.where(advantage > 0, high, low)
        mean = sequence_sum(clipped, mask) / tokens_of(mask)
        ratio = mean.clamp(max=self.max_log_ratio).exp().expand_as(log_ratio)
        above = (advantage > 0) & (log_ratio > self.log_clip_high)
        below = (advantage < 0) & (log_ratio < -self.log_clip_low)
        return TokenLoss(
            -ratio * advantage,
            {
                "clipped_high_fraction": masked_pair(above.to(ratio), mask),
                "clipped_low_fraction": masked_pair(below.to(ratio), mask),
            },
        )


@dataclass(frozen=True, kw_only=True)
class VESPO(GroupRelative):
    """Variational Sequence-level Soft Policy Optimization: ``-sg(phi(S)) A log pi``.

    ``phi(S) = S^k exp(lambda (1 - S))`` of the whole sequence's ratio S, without a length
    normalisation; phi(1) = 1, and phi falls on either side of k / lambda. k and lambda depend on
    the sign of A. An importance correction weighs the loss and does not enter S.

    Right: ``sqrt((1-r)/r) phi(S)``
    Wrong: ``-sqrt(r/(1-r)) phi(S)``
    Source: arXiv 2602.10693

    Attributes:
        power_positive, decay_positive: k and lambda where A is 0 or more.
        power_negative, decay_negative: k and lambda where A is below 0.
    """

    unsupported_options: ClassVar[Mapping[str, str]] = {
        "dual_clip": NO_CLIP,
        "prompt_weight": OWN_WEIGHT,
    }
    power_positive: float = bounded(2.0, above=0, finite=True, use="2.0")
    decay_positive: float = bounded(3.0, above=0, finite=True, use="3.0")
    power_negative: float = bounded(3.0, above=0, finite=True, use="3.0")
    decay_negative: float = bounded(2.0, above=0, finite=True, use="2.0")

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio = sequence_sum(self.ratio(logprobs.detach(), old_logprobs)[0], mask)
        log_ratio = log_ratio.clamp(max=self.max_log_ratio)
        advantage = signal["advantage"].to(log_ratio)[:, None]
        right = phi(log_ratio, self.power_positive, self.decay_positive)
        wrong = phi(log_ratio, self.power_negative, self.decay_negative)
        weight = torch.where(advantage >= 0, right, wrong)
        return TokenLoss(-weight * advantage * widen(logprobs))


def phi(log_ratio: Tensor, power: float, decay: float) -> Tensor:
    """Return ``S^power exp(decay (1 - S))`` from log S."""
    return (power * log_ratio + decay * (1 - log_ratio.exp())).exp()
