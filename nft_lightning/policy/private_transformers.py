"""Private names of transformers', which no other file touches."""

from __future__ import annotations

from typing import Any

FLASH = "flash_attention_2"


def flash(model: Any) -> bool:
    """Return whether the model computes attention by flash-attn."""
    return bool(model.config._attn_implementation == FLASH)
