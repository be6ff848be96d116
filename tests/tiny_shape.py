"""The shape of a decoder that is made and run in milliseconds."""

from __future__ import annotations

from typing import Any


def tiny_shape(vocab_size: int, hidden_size: int = 32, **others: Any) -> dict[str, Any]:
    """Arguments of a transformers config: two layers of two heads; ``others`` go before."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": hidden_size * 3 // 2,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        **others,
    }
