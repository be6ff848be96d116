"""The clipped ratio of policy gradients, and what its interval may be."""

from __future__ import annotations

import torch
from torch import Tensor

from nft_lightning.common.bounds import check_field
from nft_lightning.errors import UserError
from nft_lightning.objectives.tensors import masked_pair
from nft_lightning.types import TokenLoss


def clipped_loss(
    ratio: Tensor, advantage: Tensor, mask: Tensor, low: float, high: float, dual_clip: float = 0.0
) -> TokenLoss:
    """``-min(R A, clip(R, 1 - low, 1 + high) A)``, at most ``-dual_clip A`` where A < 0."""
    clipped = ratio.clamp(1 - low, 1 + high)
    loss = -torch.minimum(ratio * advantage, clipped * advantage)
    if dual_clip:
        loss = torch.where(advantage < 0, torch.minimum(loss, -dual_clip * advantage), loss)
    above = (ratio > 1 + high) & (advantage > 0)
    below = (ratio < 1 - low) & (advantage < 0)
    return TokenLoss(
        loss,
        {
            "clipped_high_fraction": masked_pair(above.to(ratio), mask),
            "clipped_low_fraction": masked_pair(below.to(ratio), mask),
        },
    )


def check_clip(low: float, high: float, dual_clip: float = 0.0) -> None:
    """Raise UserError unless [1 - low, 1 + high] is an interval around 1, inside the dual clip."""
    check_field("algorithm.clip_low", low, above=0, most=1, use="0.2")
    check_field("algorithm.clip_high", high, above=0, finite=True, use="0.2 or 0.28")
    if dual_clip and dual_clip <= 1 + high:
        raise UserError(
            "algorithm.dual_clip", dual_clip, f"is inside the interval up to {1 + high:g}", "use 3"
        )
