"""The reductions: the one place that knows how token losses become a scalar."""

from __future__ import annotations

import torch
from torch import Tensor

REDUCTIONS = ("token_mean", "sequence_mean", "constant", "sum_per_1000")


def token_weights(lengths: Tensor, keep: Tensor, reduction: str, max_new_tokens: int) -> Tensor:
    """Return the weight of each token of each sequence of one global optimizer batch.

    Args:
        lengths: [N] int, completion tokens; keep: [N] bool, rows that take part.
        reduction: ``token_mean`` 1 / all tokens; ``sequence_mean`` 1 / (rows * own length);
            ``constant`` 1 / (rows * max_new_tokens), Dr. GRPO; ``sum_per_1000`` 1 / 1000, the
            official NFT code.

    Returns:
        [N] float64; 0 where ``keep`` is false or the completion is empty.
    """
    lengths, rows = lengths.double(), keep.sum().clamp(min=1).double()
    if reduction == "token_mean":
        weight = torch.ones_like(lengths) / (lengths * keep).sum().clamp(min=1)
    elif reduction == "sequence_mean":
        weight = 1 / (rows * lengths.clamp(min=1))
    elif reduction == "constant":
        weight = torch.ones_like(lengths) / (rows * max_new_tokens)
    elif reduction == "sum_per_1000":
        weight = torch.full_like(lengths, 1e-3)
    else:
        raise ValueError(f"unknown reduction {reduction!r}")
    return weight * keep * (lengths > 0)
