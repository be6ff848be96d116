"""Numbers of single tokens, put where their tokens are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def aligned(values: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return [B, T]: each row's numbers where its ``mask`` [B, T] is true, and 0 elsewhere.

    Raises:
        ValueError: a row has not as many numbers as true places.
    """
    made = torch.zeros(mask.shape, dtype=values[0].dtype, device=mask.device)
    for row, own, places in zip(made, values, mask, strict=True):
        if own.shape != (int(places.sum()),):
            raise ValueError(
                f"{tuple(own.shape)} numbers for {int(places.sum())} tokens of a completion"
            )
        row[places] = own.to(mask.device)
    return made
