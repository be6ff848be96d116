"""How a micro-batch is shown to the model: padded rows, or its tokens end to end without padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nft_lightning.types import TokenBatch


class View(NamedTuple):
    """What a model is asked.

    input_ids [R, L]; position_ids [R, L], or None for 0, 1, 2 ..; columns [C]: the places whose logits
    are wanted; targets [R, C]: the tokens that follow there; inside [R, C] bool: which of them count, in
    the order of the batch's mask.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    columns: Tensor
    targets: Tensor
    inside: Tensor


def padded(batch: TokenBatch) -> View:
    """Return the rows as they are. They are padded on the right, so a causal model needs no attention
    mask.
    """
    columns = batch.mask.any(0).nonzero()[:, 0]
    if len(columns) == 0:
        columns = torch.zeros(1, dtype=torch.long, device=batch.mask.device)
    targets = batch.input_ids[:, 1:][:, columns]
    return View(batch.input_ids, None, columns, targets, batch.mask[:, columns])


def flat(batch: TokenBatch) -> View:
    """Return all rows in one, end to end: positions begin again with each, by which models keep them
    apart.

    transformers reads the restarts as separate sequences: for flash attention as lengths, for the
    others as a mask of blocks.
    """
    real = batch.attention_mask.bool()
    real[:, 0] = True  # an empty row still has a token
    ids = batch.input_ids[real]
    positions = torch.arange(real.shape[1], device=ids.device).expand(real.shape)[real]
    place = (real.flatten().cumsum(0) - 1).view_as(real)[:, :-1]
    columns, inside = place[batch.mask], torch.ones_like(place[batch.mask], dtype=torch.bool)
    if len(columns) == 0:
        columns, inside = place.new_zeros(1), inside.new_zeros(1)
    targets = ids[(columns + 1).clamp(max=len(ids) - 1)]
    return View(ids[None], positions[None], columns, targets[None], inside[None])


def rows_again(hidden: Tensor, batch: TokenBatch) -> Tensor:
    """Flat states [1, N, H] as rows [B, S, H], 0 at the padding."""
    real = batch.attention_mask.bool()
    real[:, 0] = True
    return hidden.new_zeros(*real.shape, hidden.shape[-1]).index_put((real,), hidden[0])
