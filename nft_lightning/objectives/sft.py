"""Maximum likelihood on reference solutions: SFT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nft_lightning.objectives.base import Objective, Outcomes, every_row
from nft_lightning.objectives.contract import RequiredInputs
from nft_lightning.objectives.tensors import widen
from nft_lightning.types import Signal, TokenLoss

SAMPLED_ONLY = (
    "kl_coefficient",
    "mask_truncated",
    "overlong_buffer_fraction",
    "dual_clip",
    "importance_correction",
    "off_policy_mask",
    "prompt_weight",
    "drop_uniform_groups",
)
NOT_SAMPLED = "learns from reference solutions, which no policy sampled"


@dataclass(frozen=True, kw_only=True)
class SFT(Objective):
    """Supervised fine-tuning: ``-log pi`` on the data set's worked solutions; nothing is sampled.

    Right: ``1``, on every token of a reference solution
    Wrong: no wrong answers
    Source: maximum likelihood
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(references=True)
    unsupported_options: ClassVar[Mapping[str, str]] = dict.fromkeys(SAMPLED_ONLY, NOT_SAMPLED)

    def prepare(self, outcomes: Outcomes) -> Signal:
        """Return every row, as one that takes part."""
        return every_row(outcomes)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        return TokenLoss(-widen(logprobs))
