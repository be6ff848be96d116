"""What a model's config says of its text; wrappers of several modalities keep that in one inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONTEXT_NAMES = ("max_position_embeddings", "max_seq_len", "max_sequence_length")


@dataclass(frozen=True)
class Shape:
    """Sizes of a causal language model; None where the config does not say."""

    vocab_size: int
    hidden_size: int
    context_tokens: int | None
    softcap: float | None


def text_config(config: Any) -> Any:
    """Return the part of ``config`` that describes the decoder of text: itself, or one inside it."""
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def shape_of(config: Any) -> Shape:
    """Return the sizes that a transformers config gives its text model."""
    text = text_config(config)
    known = [getattr(text, name, None) for name in CONTEXT_NAMES]
    context = next((tokens for tokens in known if isinstance(tokens, int) and tokens > 0), None)
    softcap = getattr(text, "final_logit_softcapping", None)
    return Shape(text.vocab_size, text.hidden_size, context, softcap)


def softcaps_attention(config: Any) -> bool:
    """Return whether the model bounds its attention's scores by a tanh, as Gemma 2 does."""
    return bool(getattr(text_config(config), "attn_logit_softcapping", None))


def text_architecture(config: Any) -> str | None:
    """Return the class of a wrapper's text model; None where ``config`` is no wrapper."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    text = text_config(config)
    return None if text is config else NAMES.get(text.model_type)
