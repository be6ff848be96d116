"""Algorithms that clip the ratio and compare answers to one problem: GRPO and its kin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.objectives.base import Outcomes
from nft_lightning.objectives.clipped import check_clip, clipped_loss
from nft_lightning.objectives.group import GroupRelative
from nft_lightning.objectives.options import OWN_WEIGHT
from nft_lightning.objectives.tensors import ROUNDING, group_mean
from nft_lightning.types import TokenLoss


@dataclass(frozen=True, kw_only=True)
class GRPO(GroupRelative):
    """Group Relative Policy Optimization.

    ``-min(R A, clip(R, 1 - clip_low, 1 + clip_high) A)`` with ``A = (r - mean) / std`` over the
    group, population standard deviation; A is 0 where all rewards of a group are equal.

    Right: ``sqrt((1-r)/r) R [R < 1+clip_high]``
    Wrong: ``-sqrt(r/(1-r)) R [R > 1-clip_low]``
    Source: arXiv 2402.03300, without its KL term unless kl_coefficient asks for it

    Attributes:
        clip_low, clip_high: the trust interval of R is ``[1 - clip_low, 1 + clip_high]``.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clip(self.clip_low, self.clip_high, self.dual_clip)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        ratio = self.ratio(logprobs, old_logprobs)[1]
        advantage = signal["advantage"].to(ratio)[:, None]
        return clipped_loss(ratio, advantage, mask, self.clip_low, self.clip_high, self.dual_clip)


@dataclass(frozen=True, kw_only=True)
class DrGRPO(GRPO):
    """Dr. GRPO: the advantage is ``r - mean``, without the division by std.

    Right: ``(1-r) R [R < 1+clip_high]``
    Wrong: ``-r R [R > 1-clip_low]``
    Source: arXiv 2503.20783
    """

    unsupported_options: ClassVar[Mapping[str, str]] = {
        "prompt_weight": OWN_WEIGHT,
        "std": "divides by no standard deviation",
    }
    normalize_std: bool = False


@dataclass(frozen=True, kw_only=True)
class MaxRL(GRPO):
    """Maximum Likelihood Reinforcement Learning: the advantage is ``(r - mean) / mean``.

    A is 0 where no answer of a group is right. On policy it is NFT with ``prompt_weight=odds``.

    Right: ``(1-r)/r R [R < 1+clip_high]``
    Wrong: ``-R [R > 1-clip_low]``
    Source: arXiv 2602.02710
    """

    unsupported_options: ClassVar[Mapping[str, str]] = {
        "prompt_weight": OWN_WEIGHT,
        "normalize_std": "divides by the group's mean",
        "std": "divides by the group's mean",
    }
    normalize_std: bool = False

    def scaled(self, centred: Tensor, shaped: Tensor, outcomes: Outcomes, keep: Tensor) -> Tensor:
        """Return [N]: ``r - mean`` over its group's mean; 0 where that is not above 0."""
        mean = group_mean(shaped, outcomes.group_ids)
        return torch.where(mean > ROUNDING, centred / mean.clamp(min=ROUNDING), torch.zeros_like(mean))


@dataclass(frozen=True, kw_only=True)
class DAPO(GRPO):
    """DAPO: clip-higher, token-level loss, dynamic sampling, overlong shaping.

    Right: ``sqrt((1-r)/r) R [R < 1+clip_high]``
    Wrong: ``-sqrt(r/(1-r)) R [R > 1-clip_low]``
    Source: arXiv 2503.14476
    """

    clip_high: float = 0.28
    drop_uniform_groups: bool = True
    overlong_buffer_fraction: float = 0.2


@dataclass(frozen=True, kw_only=True)
class REINFORCEPlusPlusBaseline(GRPO):
    """REINFORCE++-baseline: ``r - group mean``, then whitened over the tokens of the whole rollout.

    Whitening sees every completion that is kept, weighted by its length, before anything is cut
    into batches. With a = mean and b = std of the advantages over all tokens:

    Right: ``(1-r-a)/b R [R < 1+clip_high]``
    Wrong: ``-(r+a)/b R [R > 1-clip_low]``
    Source: arXiv 2501.03262
    """

    unsupported_options: ClassVar[Mapping[str, str]] = {
        "prompt_weight": OWN_WEIGHT,
        "normalize_std": "divides by the deviation of the whole rollout, not of a group",
        "std": "divides by the deviation of the whole rollout, not of a group",
    }
    normalize_std: bool = False

    def scaled(self, centred: Tensor, shaped: Tensor, outcomes: Outcomes, keep: Tensor) -> Tensor:
        """Return [N]: mean 0 and variance 1 over the rollout's tokens."""
        weight = outcomes.lengths.double() * keep
        total = weight.sum().clamp(min=1)
        mean = (centred * weight).sum() / total
        std = (((centred - mean) ** 2 * weight).sum() / total).sqrt()
        return (centred - mean) / std if std > ROUNDING else torch.zeros_like(centred)
