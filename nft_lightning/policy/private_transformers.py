"""Private names of transformers', which no other file touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import masking_utils

FLASH = "flash_attention_2"
FOUND_BY_LOOKING: Callable[[Tensor], Tensor | None] = masking_utils.find_packed_sequence_indices
# What is known of the rows of the forward pass that this thread is in.
SEVERAL: ContextVar[bool | None] = ContextVar("SEVERAL", default=None)


def attention_of(model: Any) -> str:
    """Return the name of the way in which the model computes attention."""
    name: str = model.config._attn_implementation
    return name


def flash(model: Any) -> bool:
    """Return whether the model computes attention by flash-attn."""
    return attention_of(model) == FLASH


@contextmanager
def rows_known(*, several: bool) -> Iterator[None]:
    """Inside, models do not look for rows end to end: that would wait for the device in each pass.

    Args:
        several: there is more than one in each row of the input.
    """
    masking_utils.find_packed_sequence_indices = rows_of
    token = SEVERAL.set(several)
    try:
        yield
    finally:
        SEVERAL.reset(token)


def rows_of(position_ids: Tensor) -> Tensor | None:
    """Return [R, L]: which row each token belongs to, by the restarts of ``position_ids`` [R, L].

    None means one row in each of the input's; outside of :func:`rows_known` transformers decides.
    """
    several = SEVERAL.get()
    if several is None:
        return FOUND_BY_LOOKING(position_ids)
    if not several:
        return None
    step = torch.diff(position_ids, prepend=position_ids[:, :1] - 1, dim=-1)
    return (step != 1).cumsum(-1)
