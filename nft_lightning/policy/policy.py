"""The trained model as a function from a token batch to log-probabilities."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nft_lightning.types import TokenBatch


class PolicyOutput(NamedTuple):
    """logprobs [B, T] fp32 with gradient; entropy [B, T] fp32 without."""

    logprobs: Tensor
    entropy: Tensor


class Policy(nn.Module):
    """A causal language model and its tokenizer.

    Log-probabilities are taken at ``temperature``, the one that completions are sampled at.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, temperature: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.temperature = temperature

    def forward(self, batch: TokenBatch) -> PolicyOutput:
        """Log-probability of each predicted token; positions outside ``batch.mask`` hold 0."""
        mask = batch.mask
        columns = mask.any(0).nonzero()[:, 0]
        if len(columns) == 0:
            columns = torch.zeros(1, dtype=torch.long, device=mask.device)
        # Rows are padded on the right, so a causal model needs no attention mask here.
        logits = self.model(
            input_ids=batch.input_ids, use_cache=False, logits_to_keep=columns
        ).logits.float()
        logits = logits / self.temperature
        targets = batch.input_ids[:, 1:][:, columns]
        normalizer = logits.logsumexp(-1)
        chosen = logits.gather(-1, targets[..., None])[..., 0] - normalizer
        with torch.no_grad():
            spread = normalizer - (logits.softmax(-1) * logits).sum(-1)
        empty = torch.zeros(mask.shape, device=mask.device)
        inside = mask[:, columns]
        return PolicyOutput(
            empty.index_copy(1, columns, chosen * inside),
            empty.index_copy(1, columns, spread * inside),
        )
