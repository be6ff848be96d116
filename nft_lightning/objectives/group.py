"""What the group-relative algorithms share: the advantage of a completion within its group."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.common.bounds import bounded
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.objectives.contract import RequiredInputs
from nft_lightning.objectives.options import OWN_WEIGHT
from nft_lightning.objectives.tensors import ROUNDING, group_mean, group_size, varied_groups
from nft_lightning.types import Signal, TokenLoss

DEVIATIONS = ("population", "sample")


@dataclass(frozen=True, kw_only=True)
class GroupRelative(Objective):
    """``A = (r - mean) / std`` over the completions of one problem; a subclass says what A weighs.

    A is 0 where all rewards of a group are equal up to rounding.

    Attributes:
        normalize_std: divide by the group's standard deviation.
        std: ``population`` (over K) or ``sample`` (over K - 1, as TRL and verl do; with K = 8 the
            advantages are 0.935 times as large).
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(group_size=2)
    advantage_key: ClassVar[str | None] = "advantage"
    unsupported_options: ClassVar[Mapping[str, str]] = {"prompt_weight": OWN_WEIGHT}
    normalize_std: bool = True
    std: str = bounded("population", choices=DEVIATIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.normalize_std and self.std != "population":
            reason = "has no effect, because algorithm.normalize_std is false"
            raise UserError("algorithm.std", self.std, reason, "leave it at population")

    def prepare(self, outcomes: Outcomes) -> Signal:
        """Return the advantage of each completion within its group."""
        rewards = outcomes.rewards.double()
        keep = torch.ones_like(rewards, dtype=torch.bool)
        if self.drop_uniform_groups:
            keep = varied_groups(rewards, outcomes.group_ids)
        shaped = rewards + self.length_penalty(outcomes)
        centred = shaped - group_mean(shaped, outcomes.group_ids)
        advantage = self.scaled(centred, shaped, outcomes, keep)
        return Signal({"reward": outcomes.rewards, "advantage": advantage}, keep)

    def scaled(self, centred: Tensor, shaped: Tensor, outcomes: Outcomes, keep: Tensor) -> Tensor:
        """Return [N]: ``r - mean`` over its group's standard deviation.

        Args:
            centred: [N], ``r - mean``. shaped: [N], rewards with the length penalty.
            outcomes: of the rollout. keep: [N] bool, rows that take part.
        """
        if not self.normalize_std:
            return centred
        variance = group_mean(centred**2, outcomes.group_ids)
        if self.std == "sample":
            size = group_size(outcomes.group_ids)
            variance = variance * size / (size - 1).clamp(min=1)
        std = variance.sqrt()
        return torch.where(std > ROUNDING, centred / std.clamp(min=ROUNDING), torch.zeros_like(std))

    @abstractmethod
    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
