"""One ratio a sequence: GSPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from nft_lightning.objectives.clipped import GRPO, clipped_loss
from nft_lightning.objectives.tensors import sequence_sum, tokens_of
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
