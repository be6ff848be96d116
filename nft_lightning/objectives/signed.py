"""Signed likelihood: right answers up, wrong answers down, with fixed weights. TOPR, PSR, NSR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.common.bounds import bounded
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.objectives.clipped import check_clip, clipped_loss
from nft_lightning.objectives.contract import RequiredInputs
from nft_lightning.objectives.options import BINARY, NO_CLIP
from nft_lightning.objectives.tensors import check_binary, sequence_sum, varied_groups, widen
from nft_lightning.types import Signal, TokenLoss

FIXED = "weighs right and wrong answers by constants of its own"


@dataclass(frozen=True, kw_only=True)
class WeightedREINFORCE(Objective):
    """W-REINFORCE: advantage ``positive_weight`` on right and ``-negative_weight`` on wrong answers.

    Clipped as in PPO. No comparison within a group, so problems that are all right or all wrong
    teach as well.

    Right: ``positive_weight R [R < 1+clip_high]``
    Wrong: ``-negative_weight R [R > 1-clip_low]``
    Source: arXiv 2506.01347

    Attributes:
        positive_weight, negative_weight: the two constants, 0 or more.
        clip_low, clip_high: the trust interval of R is ``[1 - clip_low, 1 + clip_high]``.
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(binary_rewards=True)
    advantage_key: ClassVar[str | None] = "advantage"
    unsupported_options: ClassVar[Mapping[str, str]] = {
        "overlong_buffer_fraction": BINARY,
        "prompt_weight": FIXED,
    }
    positive_weight: float = bounded(0.1, least=0, finite=True, use="0 or more")
    negative_weight: float = bounded(1.0, least=0, finite=True, use="0 or more")
    clip_low: float = 0.2
    clip_high: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clip(self.clip_low, self.clip_high, self.dual_clip)
        if not self.positive_weight and not self.negative_weight:
            raise UserError(
                "algorithm.positive_weight, algorithm.negative_weight",
                [0.0, 0.0],
                "leave nothing to learn from",
                "make one of them positive",
            )

    def prepare(self, outcomes: Outcomes) -> Signal:
        """Return the constant of each completion's side; a side of weight 0 leaves loss and
        denominators.
        """
        check_binary(outcomes.rewards, type(self).__name__)
        right = outcomes.rewards > 0
        advantage = self.positive_weight * right.double() - self.negative_weight * (~right).double()
        keep = advantage != 0
        if self.drop_uniform_groups:
            keep = keep & varied_groups(outcomes.rewards, outcomes.group_ids)
        return Signal({"reward": outcomes.rewards, "advantage": advantage}, keep)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        ratio = self.ratio(logprobs, old_logprobs)[1]
        advantage = signal["advantage"].to(ratio)[:, None]
        return clipped_loss(ratio, advantage, mask, self.clip_low, self.clip_high, self.dual_clip)


@dataclass(frozen=True, kw_only=True)
class PSR(WeightedREINFORCE):
    """Positive sample reinforcement: right answers only.

    Right: ``R [R < 1+clip_high]``
    Wrong: ``0``
    Source: arXiv 2506.01347
    """

    positive_weight: float = 1.0
    negative_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_zero(self, "negative_weight", "right")


@dataclass(frozen=True, kw_only=True)
class NSR(WeightedREINFORCE):
    """Negative sample reinforcement: wrong answers only.

    Right: ``0``
    Wrong: ``-R [R > 1-clip_low]``
    Source: arXiv 2506.01347
    """

    positive_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_zero(self, "positive_weight", "wrong")


def check_zero(objective: WeightedREINFORCE, name: str, side: str) -> None:
    """Raise UserError where a one-sided algorithm is given weight on the other side."""
    if getattr(objective, name):
        raise UserError(
            f"algorithm.{name}",
            getattr(objective, name),
            f"has no place in {type(objective).__name__}, which learns only from {side} answers",
            "use algorithm=w_reinforce",
        )


@dataclass(frozen=True, kw_only=True)
class TOPR(Objective):
    """Tapered off-policy REINFORCE.

    ``-log pi`` on right answers; ``+sg(min(S, 1)) log pi`` on wrong ones, where S is the ratio of
    the whole sequence, so that a wrong answer which has become unlikely is let go.

    Right: ``1``
    Wrong: ``-negative_weight min(S, 1)``
    Source: arXiv 2503.14286

    Attributes:
        negative_weight: factor on the wrong half.
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(binary_rewards=True)
    unsupported_options: ClassVar[Mapping[str, str]] = {
        "overlong_buffer_fraction": BINARY,
        "prompt_weight": FIXED,
        "dual_clip": NO_CLIP,
    }
    negative_weight: float = bounded(1.0, least=0, finite=True, use="0 or more")

    def prepare(self, outcomes: Outcomes) -> Signal:
        """Right and wrong; nothing is compared within a group."""
        check_binary(outcomes.rewards, type(self).__name__)
        keep = torch.ones_like(outcomes.rewards, dtype=torch.bool)
        if self.drop_uniform_groups:
            keep = varied_groups(outcomes.rewards, outcomes.group_ids)
        return Signal({"reward": outcomes.rewards}, keep)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio = self.ratio(logprobs.detach(), old_logprobs)[0]
        taper = sequence_sum(log_ratio, mask).clamp(max=0.0).exp()
        right = (signal["reward"] > 0)[:, None]
        coefficient = torch.where(right, torch.ones_like(taper), -self.negative_weight * taper)
        return TokenLoss(-coefficient * widen(logprobs))
