"""How a micro-batch is shown to the model: padded rows, or its tokens end to end without padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nft_lightning.types import TokenBatch


class View(NamedTuple):
    """What a model is asked.

    input_ids [R, L]; position_ids [R, L], or None for 0, 1, 2 ..; columns [C]: the places whose logits
    are wanted; targets [R, C]: the tokens that follow there; inside [P]: which of the flattened targets
    count, in the order of the batch's mask; states [P]: the places in the flattened [R, L] of the
    tokens before them; edges [B + 1] int32: where each of several rows end to end begins, and the end
    of the last, or None where each row is one of input_ids; longest: tokens of the longest.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    columns: Tensor
    targets: Tensor
    inside: Tensor
    states: Tensor
    edges: Tensor | None
    longest: int


def padded(batch: TokenBatch) -> View:
    """Return the rows as they are. They are padded on the right, so a causal model needs no attention
    mask.
    """
    places = batch.known_places
    targets = batch.input_ids[:, 1:].index_select(1, places.columns)
    # A row of input_ids is one longer than a row of the mask.
    states = places.predicted + places.predicted // batch.mask.shape[1]
    longest = batch.input_ids.shape[1]
    return View(batch.input_ids, None, places.columns, targets, places.within, states, None, longest)


def flat(batch: TokenBatch) -> View:
    """Return all rows in one, end to end: positions begin again with each, by which models keep them
    apart.

    transformers reads the restarts as separate sequences, of which it makes a mask of blocks; flash
    attention is given the edges.
    """
    places = batch.known_places
    ids = batch.input_ids.flatten().index_select(0, places.real)
    positions = places.real % batch.input_ids.shape[1]
    columns = places.before
    if len(columns) == 0:
        columns = columns.new_zeros(1)
    targets = ids.index_select(0, (columns + 1).clamp(max=len(ids) - 1))
    inside = torch.arange(len(places.before), device=ids.device)
    edges = places.edges if len(batch.mask) > 1 else None
    return View(
        ids[None], positions[None], columns, targets[None], inside, places.before, edges, places.longest
    )


def rows_again(hidden: Tensor, batch: TokenBatch) -> Tensor:
    """Flat states [1, N, H] as rows [B, S, H], 0 at the padding."""
    shape = batch.input_ids.shape
    rows = hidden.new_zeros(shape.numel(), hidden.shape[-1])
    return rows.index_copy(0, batch.known_places.real, hidden[0]).view(*shape, -1)
