"""Group-relative policy gradients with a clipped ratio: GRPO, Dr. GRPO, DAPO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.errors import UserError
from nft_lightning.objectives.base import (
    Objective,
    Outcomes,
    Requires,
    group_mean,
    masked_pair,
    varied_groups,
)
from nft_lightning.types import Signal, TokenLoss


@dataclass(frozen=True, kw_only=True)
class GRPO(Objective):
    """Group Relative Policy Optimization (arXiv 2402.03300) without its KL term.

    ``-min(R A, clip(R, 1 - clip_low, 1 + clip_high) A)`` with ``A = (r - mean) / std`` over the
    group, population standard deviation; A is 0 where all rewards of a group are equal.

    Attributes:
        clip_low, clip_high: the trust interval of R is ``[1 - clip_low, 1 + clip_high]``.
        normalize_std: divide by the group's standard deviation.
        overlong_buffer_fraction: soft length penalty (DAPO, arXiv 2503.14476, Eq. 13) that grows
            over the last fraction of ``max_new_tokens``; 0 is off.
        overlong_penalty: the penalty at full length.
    """

    requires: ClassVar[Requires] = Requires(group_size=2)
    clip_low: float = 0.2
    clip_high: float = 0.2
    normalize_std: bool = True
    overlong_buffer_fraction: float = 0.0
    overlong_penalty: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.clip_low <= 1:
            raise UserError("algorithm.clip_low", self.clip_low, "is outside (0, 1]", "use 0.2")
        if not (math.isfinite(self.clip_high) and self.clip_high > 0):
            raise UserError("algorithm.clip_high", self.clip_high, "is not above 0", "use 0.2 or 0.28")
        if not 0 <= self.overlong_buffer_fraction < 1:
            raise UserError(
                "algorithm.overlong_buffer_fraction",
                self.overlong_buffer_fraction,
                "is outside [0, 1)",
                "use 0 (off) or 0.2",
            )

    def prepare(self, outcomes: Outcomes) -> Signal:
        """The advantage of each completion within its group."""
        rewards = outcomes.rewards.double()
        shaped = rewards + self.length_penalty(outcomes)
        centred = shaped - group_mean(shaped, outcomes.group_ids)
        if self.normalize_std:
            std = group_mean(centred**2, outcomes.group_ids).sqrt()
            centred = torch.where(std > 1e-12, centred / std.clamp(min=1e-12), torch.zeros_like(std))
        keep = torch.ones_like(rewards, dtype=torch.bool)
        if self.drop_uniform_groups:
            keep = varied_groups(rewards, outcomes.group_ids)
        return Signal({"reward": outcomes.rewards, "advantage": centred}, keep)

    def length_penalty(self, outcomes: Outcomes) -> Tensor:
        """[N], in [-overlong_penalty, 0]."""
        lengths = outcomes.lengths.double()
        if not self.overlong_buffer_fraction or outcomes.max_new_tokens is None:
            return torch.zeros_like(lengths)
        buffer = self.overlong_buffer_fraction * outcomes.max_new_tokens
        excess = lengths - (outcomes.max_new_tokens - buffer)
        return -(excess / buffer).clamp(min=0, max=1) * self.overlong_penalty

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio, ratio = self.ratio(logprobs, old_logprobs)
        advantage = signal["advantage"].to(ratio)[:, None]
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        loss = -torch.minimum(ratio * advantage, clipped * advantage)
        high = (ratio > 1 + self.clip_high) & (advantage > 0)
        low = (ratio < 1 - self.clip_low) & (advantage < 0)
        metrics = self.diagnose(log_ratio, mask, signal["reward"])
        metrics["clipped_high_fraction"] = masked_pair(high.to(ratio), mask)
        metrics["clipped_low_fraction"] = masked_pair(low.to(ratio), mask)
        return TokenLoss(loss, metrics)


@dataclass(frozen=True, kw_only=True)
class DrGRPO(GRPO):
    """Dr. GRPO (arXiv 2503.20783): the advantage is ``r - mean``, without the division by std."""

    normalize_std: bool = False


@dataclass(frozen=True, kw_only=True)
class DAPO(GRPO):
    """DAPO (arXiv 2503.14476): clip-higher, token-level loss, dynamic sampling, overlong shaping."""

    clip_high: float = 0.28
    drop_uniform_groups: bool = True
    overlong_buffer_fraction: float = 0.2
