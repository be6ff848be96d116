"""Private names of transformers', which no other file touches."""

from __future__ import annotations

from typing import Any

FLASH = "flash_attention_2"


def attention_of(model: Any) -> str:
    """Return the name of the way in which the model computes attention."""
    name: str = model.config._attn_implementation
    return name


def flash(model: Any) -> bool:
    """Return whether the model computes attention by flash-attn."""
    return attention_of(model) == FLASH
