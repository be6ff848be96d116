"""The trained model as a function from a token batch to log-probabilities."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nft_lightning.types import TokenBatch


class PolicyOutput(NamedTuple):
    """logprobs [B, T] with gradient; entropy [B, T], without unless it was asked for; fp32 or wider.

    hidden [B, T, H], without gradient, holds the last hidden state before each token, or is None.
    """

    logprobs: Tensor
    entropy: Tensor
    hidden: Tensor | None = None


class Policy(nn.Module):
    """A causal language model and its tokenizer.

    Log-probabilities are taken at ``temperature``, the one that completions are sampled at.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, temperature: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.temperature = temperature

    def forward(
        self, batch: TokenBatch, *, entropy_gradient: bool = False, hidden: bool = False
    ) -> PolicyOutput:
        """Log-probability of each predicted token; positions outside ``batch.mask`` hold 0."""
        mask = batch.mask
        columns = mask.any(0).nonzero()[:, 0]
        if len(columns) == 0:
            columns = torch.zeros(1, dtype=torch.long, device=mask.device)
        # Rows are padded on the right, so a causal model needs no attention mask here.
        options = {"output_hidden_states": True} if hidden else {}
        out = self.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=columns, **options)
        logits = out.logits if out.logits.dtype == torch.float64 else out.logits.float()
        logits = logits / self.temperature
        targets = batch.input_ids[:, 1:][:, columns]
        normalizer = logits.logsumexp(-1)
        chosen = logits.gather(-1, targets[..., None])[..., 0] - normalizer
        with nullcontext() if entropy_gradient else torch.no_grad():
            spread = normalizer - (logits.softmax(-1) * logits).sum(-1)
        empty = torch.zeros(mask.shape, device=mask.device, dtype=logits.dtype)
        inside = mask[:, columns]
        return PolicyOutput(
            empty.index_copy(1, columns, chosen * inside),
            empty.index_copy(1, columns, spread * inside),
            out.hidden_states[-1][:, :-1].detach() if hidden else None,
        )
