"""Whether a model's log-probabilities can be had without its logits, and how."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nft_lightning.errors import UserError
from nft_lightning.policy.logprobs import Head, fused_logprobs
from nft_lightning.policy.shape import shape_of

WAYS = ("auto", "plain", "fused")
LARGE_VOCABULARY = 32_768


def head_of(model: Any, temperature: float, logprobs: str) -> Head | None:
    """Return what the fused way needs to know of ``model``; None is the plain way.

    Raises:
        UserError: ``fused`` was asked for, and the model's head is no plain linear layer.
    """
    shape = shape_of(model.config)
    small = shape.vocab_size < LARGE_VOCABULARY
    if logprobs == "plain" or (logprobs == "auto" and small):
        return None
    head = Head(temperature, shape.softcap)
    if type(model.get_output_embeddings()) is nn.Linear and agrees(model, head):
        return head
    if logprobs == "auto":
        return None
    raise UserError(
        "policy.logprobs",
        "fused",
        f"does not fit {type(model).__name__}, whose logits are more than a linear layer",
        "use policy.logprobs=plain",
    )


@torch.no_grad()
def agrees(model: Any, head: Head) -> bool:
    """Return whether both ways give a few tokens the same log-probabilities: tried, not guessed."""
    words = shape_of(model.config).vocab_size
    ids = torch.arange(1, 9, device=next(model.parameters()).device)[None] % words
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    wide = torch.promote_types(logits.dtype, torch.float32)
    expected = (logits.to(wide) / head.temperature).log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]
    linear = model.get_output_embeddings()
    found, _ = fused_logprobs(hidden, linear.weight, linear.bias, ids[0, 1:], head)
    bound = 1e-3 if logits.dtype == wide else 0.1
    return bool((found - expected).abs().max() < bound)
