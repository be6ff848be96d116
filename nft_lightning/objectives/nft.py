"""Maximum likelihood on right and wrong answers: NFT, NFT with rewards in between, and RFT."""

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
from nft_lightning.objectives.options import BINARY, NO_CLIP, RATIO_LEVELS
from nft_lightning.objectives.tensors import (
    ROUNDING,
    check_binary,
    check_unit,
    group_mean,
    masked_pair,
    sequence_sum,
    tokens_of,
    varied_groups,
)
from nft_lightning.types import Signal, TokenLoss

PROMPT_WEIGHTS = ("one", "one_minus_accuracy", "sqrt_odds", "odds")


def straight_through_max(x: Tensor, floor: float) -> Tensor:
    """max(x, floor) in value, the identity in gradient (max_v of Eq. 10)."""
    return x.clamp(min=floor).detach() + (x - x.detach())


@dataclass(frozen=True, kw_only=True)
class NFT(Objective):
    """Negative-aware Fine-Tuning, Eq. 10.

    Right tokens: ``-omega log R``. Wrong tokens: ``-omega log max_v((1 - r R)/(1 - r), epsilon)``.
    With ``ratio_level=sequence`` (Eq. 9) R of a wrong answer is the product over its tokens, and
    the sequence's loss is spread evenly over them; at length 1, and on policy, nothing changes.

    Right: ``omega``
    Wrong: ``-omega negative_weight r/(1-r) R / max((1-r R)/(1-r), epsilon)``
    Source: arXiv 2505.18116

    Attributes:
        prompt_weight: omega(q): ``one``, ``one_minus_accuracy`` (1 - r_q; on policy Dr. GRPO's
            gradient), ``sqrt_odds`` (sqrt((1 - r_q)/r_q); on policy GRPO's gradient) or ``odds``
            ((1 - r_q)/r_q; on policy MaxRL's gradient).
        negative_floor: epsilon, bounds the penalty on a wrong token whose ratio rises.
        negative_weight: factor on the wrong half; 0 gives RFT.
        ratio_level: ``token`` or ``sequence``.
        accuracy_clamp: r_q is held inside; the official code uses [0.02, 0.98].
        clamp_right: ``max_log_ratio`` bounds right tokens too, as in the official code; beyond it
            their gradient is 0.
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(
        group_size=2, binary_rewards=True, writers_logprobs=True
    )
    unsupported_options: ClassVar[Mapping[str, str]] = {
        "overlong_buffer_fraction": BINARY,
        "dual_clip": NO_CLIP + "; negative_floor bounds the penalty",
    }
    drop_uniform_groups: bool = True
    prompt_weight: str = bounded("one_minus_accuracy", choices=PROMPT_WEIGHTS)
    negative_floor: float = bounded(1.0, above=0, finite=True, use="1.0")
    negative_weight: float = bounded(1.0, least=0, finite=True, use="0 (RFT) or more")
    ratio_level: str = bounded("token", choices=RATIO_LEVELS)
    accuracy_clamp: tuple[float, float] = (0.0, 1.0)
    clamp_right: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "accuracy_clamp", tuple(self.accuracy_clamp))
        if (
            len(self.accuracy_clamp) != 2
            or not 0 <= self.accuracy_clamp[0] < self.accuracy_clamp[1] <= 1
        ):
            raise UserError(
                "algorithm.accuracy_clamp",
                list(self.accuracy_clamp),
                "is no interval inside [0, 1]",
                "use [0, 1] (off) or [0.02, 0.98]",
            )
        if not self.drop_uniform_groups:
            raise UserError(
                "algorithm.drop_uniform_groups",
                False,
                "divides by zero where every answer of a group is right",
                "leave it true",
            )

    def prepare(self, outcomes: Outcomes) -> Signal:
        """r_q and omega(q) of each completion's group; groups with r_q in {0, 1} are left out."""
        rewards = self.checked(outcomes.rewards)
        accuracy = group_mean(rewards.double(), outcomes.group_ids)
        keep = varied_groups(rewards, outcomes.group_ids)
        keep = keep & (accuracy > ROUNDING) & (accuracy < 1 - ROUNDING)
        accuracy = accuracy.clamp(*self.accuracy_clamp)
        # Left-out rows get an accuracy that divides safely; their loss is never used.
        safe = torch.where(keep, accuracy, torch.full_like(accuracy, 0.5))
        weight = {
            "one": torch.ones_like(safe),
            "one_minus_accuracy": 1 - safe,
            "sqrt_odds": ((1 - safe) / safe).sqrt(),
            "odds": (1 - safe) / safe,
        }[self.prompt_weight]
        return Signal({"reward": rewards, "prompt_accuracy": safe, "prompt_weight": weight}, keep)

    def checked(self, rewards: Tensor) -> Tensor:
        """Return the rewards [N]; raise UserError unless each is 0 or 1."""
        check_binary(rewards, type(self).__name__)
        return rewards

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio, ratio = self.ratio(logprobs, old_logprobs)
        spread: Tensor | float = 1.0
        if self.ratio_level == "sequence":
            ratio = sequence_sum(log_ratio, mask).clamp(max=self.max_log_ratio).exp()
            ratio, spread = ratio.expand_as(log_ratio), tokens_of(mask)
        accuracy = signal["prompt_accuracy"].to(ratio)[:, None]
        weight = signal["prompt_weight"].to(ratio)[:, None]
        right = signal["reward"].to(ratio)[:, None]
        # Relative likelihood of the token under the implicit negative policy.
        implicit = (1 - accuracy * ratio) / (1 - accuracy)
        negative = -straight_through_max(implicit, self.negative_floor).log() / spread
        if self.clamp_right:
            log_ratio = log_ratio.clamp(max=self.max_log_ratio)
        loss = weight * (right * -log_ratio + (1 - right) * self.negative_weight * negative)
        clamped = masked_pair((implicit < self.negative_floor).to(ratio), mask & (right < 1))
        return TokenLoss(loss, {"negative_clamped_fraction": clamped})


@dataclass(frozen=True, kw_only=True)
class ContinuousNFT(NFT):
    """NFT with rewards anywhere in [0, 1] (App. B): r_i is how right answer i is, r their mean.

    Each answer is right to the degree r_i and wrong to the degree 1 - r_i, so its loss is r_i times
    a right answer's and 1 - r_i times a wrong one's. With rewards of 0 and 1 it is NFT. On policy
    an answer weighs ``omega (r_i - r)/(1-r)``: Dr. GRPO's and MaxRL's advantages, as in NFT.

    Right: ``omega r_i``
    Wrong: ``-omega negative_weight (1-r_i) r/(1-r) R / max((1-r R)/(1-r), epsilon)``
    Source: arXiv 2505.18116, App. B
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(
        group_size=2, unit_rewards=True, writers_logprobs=True
    )

    def checked(self, rewards: Tensor) -> Tensor:
        """Return the rewards [N] inside [0, 1]; raise UserError where one is clearly outside."""
        return check_unit(rewards, type(self).__name__)


@dataclass(frozen=True, kw_only=True)
class RFT(NFT):
    """Rejection-sampling fine-tuning (RAFT): ``-log pi`` on right answers only.

    It is NFT with negative weight 0 and prompt weight one, as the paper's baseline is.

    Right: ``omega``, one by default
    Wrong: ``0``
    Source: arXiv 2304.06767; arXiv 2505.18116, App. B.2
    """

    # The gradient of log R is that of log pi, whatever the old policy is.
    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(group_size=2, binary_rewards=True)
    prompt_weight: str = "one"
    negative_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negative_weight != 0:
            raise UserError(
                "algorithm.negative_weight",
                self.negative_weight,
                "has no place in RFT, which learns only from right answers",
                "use algorithm=nft",
            )
