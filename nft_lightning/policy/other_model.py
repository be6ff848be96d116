"""A second model that reads the policy's tokens: a teacher, or the trunk of a critic."""

from __future__ import annotations

from typing import Any

import torch

from nft_lightning.assets import TINY_POLICIES
from nft_lightning.errors import UserError
from nft_lightning.policy.loading import HFModel, Inspected, ModelConfig, TinyModel
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.precision import cast_to_half
from nft_lightning.policy.private_transformers import attention_of


def load_other(field: str, path: str, policy: Policy) -> Policy:
    """Return the model at ``path``, stored and computing as the policy.

    Args:
        field: the key of the config that named it, for errors.

    Raises:
        UserError: it cannot be read, or its tokens are not the policy's.
    """
    model: Any = policy.model
    try:
        found = model_at(path, attention_of(model)).load(policy.temperature)
    except UserError as error:
        raise UserError(field, path, *error.given[2:]) from error
    check_tokens(field, path, found.tokenizer, policy.tokenizer)
    dtype = next(model.get_decoder().parameters()).dtype
    if dtype in (torch.bfloat16, torch.float16):
        cast_to_half(found.model, dtype)
    return found


def inspect_other(field: str, path: str, tokenizer: Any) -> Inspected:
    """Return what can be known of the model at ``path`` without its weights.

    Raises:
        UserError: it cannot be read, or its tokens are not those of ``tokenizer``, the policy's.
    """
    try:
        found = model_at(path).inspect()
    except UserError as error:
        raise UserError(field, path, *error.given[2:]) from error
    check_tokens(field, path, found.tokenizer, tokenizer)
    return found


def model_at(path: str, attention: str | None = None) -> ModelConfig:
    """Return the config of the model at ``path``; it runs no code of its author's."""
    return TinyModel(path) if path in TINY_POLICIES else HFModel(path, attention=attention)


def check_tokens(field: str, path: str, own: Any, policy: Any) -> None:
    """Raise UserError where two tokenizers do not give a text the same tokens."""
    if own.get_vocab() != policy.get_vocab():
        raise UserError(
            field,
            path,
            "has another vocabulary than the policy",
            "give a model with the policy's tokenizer, or leave it out",
        )
