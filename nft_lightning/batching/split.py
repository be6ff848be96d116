"""Micro-batches of half the rows, for when memory does not hold a whole one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from nft_lightning.types import OptimizerBatch, TokenBatch


def split_micro_batches(micro_batches: Sequence[TokenBatch]) -> list[TokenBatch]:
    """Return each micro-batch in two parts where that can be done; the weights of the tokens stay."""
    return [part for micro in micro_batches for part in parts(micro)]


def within_budget(ranks: Sequence[Sequence[OptimizerBatch]], budget: int) -> list[list[OptimizerBatch]]:
    """Split what a checkpoint holds to a smaller ``batching.max_tokens_per_micro_batch``.

    The weights of the tokens stay, and so does the gradient. What fits already is left as it is.

    Args:
        ranks: the batches that are left, for every rank: as many for each.
        budget: padded tokens of one micro-batch.

    Returns:
        The same batches, with as many micro-batches on every rank.
    """
    made: list[list[OptimizerBatch]] = [[] for _ in ranks]
    for same_step in zip(*ranks, strict=True):
        split = [fitting(batch.micro_batches, budget) for batch in same_step]
        most = max(map(len, split))
        for own, batch, micro in zip(made, same_step, split, strict=True):
            micro += [without_weight(micro[0])] * (most - len(micro)) if micro else []
            own.append(replace(batch, micro_batches=micro))
    return made


def fitting(micro_batches: Sequence[TokenBatch], budget: int) -> list[TokenBatch]:
    """Return the same rows in micro-batches of ``budget`` padded tokens at most, where possible."""
    made: list[TokenBatch] = []
    for micro in micro_batches:
        fits = micro.input_ids.numel() <= budget
        smaller = [micro] if fits else parts(micro)
        made += smaller if len(smaller) == 1 else fitting(smaller, budget)
    return made


def without_weight(micro: TokenBatch) -> TokenBatch:
    """Return the first row with nothing to learn from: another rank has one micro-batch more."""
    first = torch.arange(len(micro.input_ids), device=micro.mask.device) == 0
    row = rows(micro, first)
    nothing, weight = torch.zeros_like(row.mask), torch.zeros_like(row.token_weight)
    return replace(row, mask=nothing, token_weight=weight, places=None)


def parts(micro: TokenBatch) -> list[TokenBatch]:
    """Return two halves; rows that the signal ``group`` ties together stay in one of them."""
    count = len(micro.input_ids)
    if count < 2:
        return [micro]
    group = micro.signal.get("group")
    if group is None:
        first = torch.arange(count, device=micro.mask.device) < count // 2
    else:
        names = group.unique()
        first = torch.isin(group, names[: len(names) // 2])
    if not bool(first.any()):
        return [micro]
    return [rows(micro, first), rows(micro, ~first)]


def rows(micro: TokenBatch, chosen: Tensor) -> TokenBatch:
    """Return the ``chosen`` [B] bool rows, with places of their own where the batch has them."""
    tensors: dict[str, Any] = {
        f.name: value[chosen]
        for f in fields(micro)
        if isinstance(value := getattr(micro, f.name), Tensor)
    }
    made = replace(micro, signal={k: v[chosen] for k, v in micro.signal.items()}, places=None, **tensors)
    return made if micro.places is None else replace(made, places=made.known_places)


def out_of_memory(error: BaseException) -> bool:
    """True for torch's error on a GPU, and for the allocator's on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
