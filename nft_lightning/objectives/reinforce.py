"""The score function: REINFORCE, RLOO, GPG, AsymRE, DRO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.common.bounds import bounded
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.objectives.contract import RequiredInputs
from nft_lightning.objectives.options import NO_CLIP, OWN_WEIGHT, RATIO_LEVELS
from nft_lightning.objectives.tensors import (
    group_mean,
    group_size,
    sequence_sum,
    tokens_of,
    varied_groups,
    widen,
)
from nft_lightning.types import Signal, TokenLoss

BASELINES = ("none", "batch", "group", "leave_one_out")
GROUPED = ("group", "leave_one_out")


@dataclass(frozen=True, kw_only=True)
class REINFORCE(Objective):
    """``-sg(R) A log pi``: the plain policy gradient, importance-weighted after the first update.

    ``A = r - baseline``; the baseline is taken over the whole rollout before it is cut.

    Right: ``R (1-b)``, b = 0 or the rollout's accuracy
    Wrong: ``-R b``
    Source: Williams, 1992

    Attributes:
        baseline: ``none``, ``batch`` (mean of the kept rollout), ``group`` (mean of the problem's
            completions) or ``leave_one_out`` (mean of the others, RLOO).
        importance_ratio: weigh by R, so that later updates of a rollout stay unbiased.
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs()
    advantage_key: ClassVar[str | None] = "advantage"
    unsupported_options: ClassVar[Mapping[str, str]] = {
        "dual_clip": NO_CLIP,
        "prompt_weight": OWN_WEIGHT,
    }
    baseline: str = bounded("none", choices=BASELINES)
    importance_ratio: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline in GROUPED and self.required_inputs.group_size < 2:
            raise UserError(
                "algorithm.baseline",
                self.baseline,
                f"compares completions of one problem, for which {type(self).__name__} does not ask",
                "use algorithm=rloo or algorithm=gpg",
            )

    def prepare(self, outcomes: Outcomes) -> Signal:
        """``r - baseline`` of each completion."""
        rewards, ids = outcomes.rewards.double(), outcomes.group_ids
        keep = torch.ones_like(rewards, dtype=torch.bool)
        if self.drop_uniform_groups:
            keep = varied_groups(rewards, ids)
        shaped = rewards + self.length_penalty(outcomes)
        advantage = self.advantage(shaped, outcomes, keep)
        return Signal({"reward": outcomes.rewards, "advantage": advantage}, keep)

    def advantage(self, shaped: Tensor, outcomes: Outcomes, keep: Tensor) -> Tensor:
        """Return [N], from shaped rewards [N]."""
        if self.baseline == "none":
            return shaped
        if self.baseline == "batch":
            return shaped - (shaped * keep).sum() / keep.sum().clamp(min=1)
        centred = shaped - group_mean(shaped, outcomes.group_ids)
        if self.baseline == "group":
            return centred
        size = group_size(outcomes.group_ids)
        return centred * size / (size - 1).clamp(min=1)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        ratio = self.ratio(logprobs.detach(), old_logprobs)[1]
        weight = ratio if self.importance_ratio else torch.ones_like(ratio)
        return TokenLoss(-weight * signal["advantage"].to(ratio)[:, None] * widen(logprobs))


@dataclass(frozen=True, kw_only=True)
class RLOO(REINFORCE):
    """REINFORCE leave-one-out: the baseline is the mean reward of the other K - 1 completions.

    Right: ``K/(K-1) (1-r) R``
    Wrong: ``-K/(K-1) r R``
    Source: arXiv 2402.14740
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(group_size=2)
    baseline: str = "leave_one_out"


@dataclass(frozen=True, kw_only=True)
class GPG(REINFORCE):
    """Group Policy Gradient: ``-alpha A log pi`` with ``A = r - group mean`` and no ratio.

    ``alpha`` makes up for groups that are all right or all wrong and give no gradient: the number
    of kept completions over those in varied groups; 1 where uniform groups are left out.

    Right: ``alpha (1-r)``
    Wrong: ``-alpha r``
    Source: arXiv 2504.02546
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(group_size=2)
    baseline: str = "group"
    importance_ratio: bool = False

    def advantage(self, shaped: Tensor, outcomes: Outcomes, keep: Tensor) -> Tensor:
        """Return [N]: ``alpha (r - baseline)``."""
        varied = (varied_groups(outcomes.rewards, outcomes.group_ids) & keep).sum().clamp(min=1)
        return super().advantage(shaped, outcomes, keep) * keep.sum() / varied


@dataclass(frozen=True, kw_only=True)
class AsymRE(REINFORCE):
    """Asymmetric REINFORCE: ``-(r - V) log pi`` without a ratio, V being shifted below the mean.

    ``V = group mean + baseline_shift``. Off policy a low V learns more from right answers than from
    wrong ones; groups that are all right or all wrong teach as well, by -baseline_shift.

    Right: ``1-r-baseline_shift``
    Wrong: ``-(r+baseline_shift)``
    Source: arXiv 2506.20520

    Attributes:
        baseline_shift: delta V, below 0 for safety off policy.
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(group_size=2)
    baseline: str = "group"
    importance_ratio: bool = False
    baseline_shift: float = bounded(-0.1, finite=True, use="-0.1")

    def advantage(self, shaped: Tensor, outcomes: Outcomes, keep: Tensor) -> Tensor:
        """Return [N]: ``r - baseline - baseline_shift``."""
        return super().advantage(shaped, outcomes, keep) - self.baseline_shift


@dataclass(frozen=True, kw_only=True)
class DRO(REINFORCE):
    """Direct Reward Optimization with the group's mean as value: ``-A log pi + beta/2 (log R)^2``.

    The square holds the policy near the one that wrote the rollout, instead of a clipped ratio.
    With ``ratio_level=sequence``, as published, log R is the sum over the sequence and its square
    is spread evenly over the tokens; with ``token`` each token has its own.

    Right: ``1-r - beta log S``
    Wrong: ``-r - beta log S``
    Source: arXiv 2405.19107; with the mean as value arXiv 2501.12599, Eq. 3

    Attributes:
        beta: weight of the square; tau in the papers.
        ratio_level: ``token`` or ``sequence``.
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(group_size=2)
    # The square has a gradient where the advantage is 0.
    advantage_key: ClassVar[str | None] = None
    unsupported_options: ClassVar[Mapping[str, str]] = {
        "dual_clip": NO_CLIP,
        "prompt_weight": OWN_WEIGHT,
        "importance_ratio": "holds the ratio by its square",
    }
    baseline: str = "group"
    importance_ratio: bool = False
    beta: float = bounded(0.1, above=0, finite=True, use="0.1")
    ratio_level: str = bounded("sequence", choices=RATIO_LEVELS)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio = self.ratio(logprobs, old_logprobs)[0]
        square = log_ratio**2
        if self.ratio_level == "sequence":
            square = sequence_sum(log_ratio, mask) ** 2 / tokens_of(mask)
        advantage = signal["advantage"].to(log_ratio)[:, None]
        return TokenLoss(-advantage * widen(logprobs) + self.beta / 2 * square)
