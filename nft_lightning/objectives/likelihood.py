"""Maximum likelihood on right and wrong answers: NFT and RFT (arXiv 2505.18116)."""

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

PROMPT_WEIGHTS = ("one", "one_minus_accuracy", "sqrt_odds")


def straight_through_max(x: Tensor, floor: float) -> Tensor:
    """max(x, floor) in value, the identity in gradient (max_v of Eq. 10)."""
    return x.clamp(min=floor).detach() + (x - x.detach())


@dataclass(frozen=True, kw_only=True)
class NFT(Objective):
    """Negative-aware Fine-Tuning, Eq. 10, token ratio.

    Right tokens: ``-omega log R``. Wrong tokens: ``-omega log max_v((1 - r R)/(1 - r), epsilon)``.

    Attributes:
        prompt_weight: omega(q): ``one``, ``one_minus_accuracy`` (1 - r_q; on policy Dr. GRPO's
            gradient) or ``sqrt_odds`` (sqrt((1 - r_q)/r_q); on policy GRPO's gradient).
        negative_floor: epsilon, bounds the penalty on a wrong token whose ratio rises.
        negative_weight: factor on the wrong half; 0 gives RFT.
    """

    requires: ClassVar[Requires] = Requires(group_size=2, binary_rewards=True)
    drop_uniform_groups: bool = True
    prompt_weight: str = "one_minus_accuracy"
    negative_floor: float = 1.0
    negative_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt_weight not in PROMPT_WEIGHTS:
            raise UserError(
                "algorithm.prompt_weight",
                self.prompt_weight,
                "is not a prompt weight",
                f"use one of {', '.join(PROMPT_WEIGHTS)}",
            )
        if not (math.isfinite(self.negative_floor) and self.negative_floor > 0):
            raise UserError(
                "algorithm.negative_floor",
                self.negative_floor,
                "lets the logarithm's argument reach zero",
                "use a number above 0, such as 1.0",
            )
        if not (math.isfinite(self.negative_weight) and self.negative_weight >= 0):
            raise UserError(
                "algorithm.negative_weight",
                self.negative_weight,
                "is not a weight",
                "use 0 (RFT) or more",
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
        rewards = outcomes.rewards
        if not bool(((rewards == 0) | (rewards == 1)).all()):
            raise UserError(
                "rewards",
                sorted({round(float(r), 4) for r in rewards})[:5],
                f"are not binary, which {type(self).__name__} needs",
                "give 1 for right and 0 for wrong",
            )
        accuracy = group_mean(rewards.double(), outcomes.group_ids)
        keep = varied_groups(rewards, outcomes.group_ids)
        # Left-out rows get an accuracy that divides safely; their loss is never used.
        safe = torch.where(keep, accuracy, torch.full_like(accuracy, 0.5))
        weight = {
            "one": torch.ones_like(safe),
            "one_minus_accuracy": 1 - safe,
            "sqrt_odds": ((1 - safe) / safe).sqrt(),
        }[self.prompt_weight]
        return Signal({"reward": rewards, "prompt_accuracy": safe, "prompt_weight": weight}, keep)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio, ratio = self.ratio(logprobs, old_logprobs)
        accuracy = signal["prompt_accuracy"].to(ratio)[:, None]
        weight = signal["prompt_weight"].to(ratio)[:, None]
        right = (signal["reward"] > 0)[:, None]
        # Relative likelihood of the token under the implicit negative policy.
        implicit = (1 - accuracy * ratio) / (1 - accuracy)
        negative = -straight_through_max(implicit, self.negative_floor).log()
        loss = weight * torch.where(right, -log_ratio, self.negative_weight * negative)
        wrong = mask & ~right
        metrics = self.diagnose(log_ratio, mask, signal["reward"])
        metrics["negative_clamped_fraction"] = masked_pair(
            (implicit < self.negative_floor).to(ratio), wrong
        )
        return TokenLoss(loss, metrics)


@dataclass(frozen=True, kw_only=True)
class RFT(NFT):
    """Rejection-sampling fine-tuning (RAFT): ``-log pi`` on right answers alone.

    It is NFT with negative weight 0 and prompt weight one, as the paper's baseline is.
    """

    prompt_weight: str = "one"
    negative_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negative_weight != 0:
            raise UserError(
                "algorithm.negative_weight",
                self.negative_weight,
                "has no place in RFT, which learns from right answers alone",
                "use algorithm=nft",
            )
