"""Micro-batches of half the rows, for when memory does not hold a whole one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from nft_lightning.types import TokenBatch


def halved(micro_batches: Sequence[TokenBatch]) -> list[TokenBatch]:
    """Each micro-batch in two parts where that can be done; the weights of the tokens stay."""
    return [part for micro in micro_batches for part in parts(micro)]


def parts(micro: TokenBatch) -> list[TokenBatch]:
    """Two halves; rows that the signal ``group`` ties together stay in one of them."""
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
    """The ``chosen`` [B] bool rows."""
    tensors: dict[str, Any] = {
        f.name: value[chosen]
        for f in fields(micro)
        if isinstance(value := getattr(micro, f.name), Tensor)
    }
    return replace(micro, signal={k: v[chosen] for k, v in micro.signal.items()}, **tensors)


def out_of_memory(error: BaseException) -> bool:
    """True for torch's error on a GPU, and for the allocator's on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
