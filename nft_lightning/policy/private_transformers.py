"""Private names of transformers', which no other file touches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import masking_utils

FLASH = "flash_attention_2"


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
    kept = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = row_numbers if several else no_rows
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = kept


def row_numbers(position_ids: Tensor) -> Tensor:
    """Return [R, L]: which row each token belongs to, by the restarts of ``position_ids`` [R, L]."""
    step = torch.diff(position_ids, prepend=position_ids[:, :1] - 1, dim=-1)
    return (step != 1).cumsum(-1)


def no_rows(position_ids: Tensor) -> None:
    """Return that there is one row in each of the input's."""
