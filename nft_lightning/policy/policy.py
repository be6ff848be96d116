"""The trained model as a function from a token batch to log-probabilities."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nft_lightning.policy.fused import Head, fused_logprobs
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
        # What the fused way needs to know of the model's head; None is the plain way.
        self.fused: Head | None = None

    def forward(
        self, batch: TokenBatch, *, entropy_gradient: bool = False, hidden: bool = False
    ) -> PolicyOutput:
        """Log-probability of each predicted token; positions outside ``batch.mask`` hold 0."""
        mask = batch.mask
        columns = mask.any(0).nonzero()[:, 0]
        if len(columns) == 0:
            columns = torch.zeros(1, dtype=torch.long, device=mask.device)
        targets = batch.input_ids[:, 1:][:, columns]
        if self.fused is None:
            chosen, spread, last = self.plainly(batch, columns, targets, entropy_gradient, hidden)
        else:
            chosen, spread, last = self.in_tiles(batch, columns, targets)
        inside = mask[:, columns]
        empty = torch.zeros(mask.shape, device=mask.device, dtype=chosen.dtype)
        return PolicyOutput(
            empty.index_copy(1, columns, chosen * inside),
            empty.index_copy(1, columns, (spread if entropy_gradient else spread.detach()) * inside),
            last[:, :-1].detach() if hidden and last is not None else None,
        )

    def plainly(
        self,
        batch: TokenBatch,
        columns: Tensor,
        targets: Tensor,
        entropy_gradient: bool,
        hidden: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-probabilities and entropies [B, columns] by way of the logits; the last hidden states."""
        # Rows are padded on the right, so a causal model needs no attention mask here.
        options = {"output_hidden_states": True} if hidden else {}
        out = self.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=columns, **options)
        logits = out.logits if out.logits.dtype == torch.float64 else out.logits.float()
        logits = logits / self.temperature
        normalizer = logits.logsumexp(-1)
        chosen = logits.gather(-1, targets[..., None])[..., 0] - normalizer
        with nullcontext() if entropy_gradient else torch.no_grad():
            spread = normalizer - (logits.softmax(-1) * logits).sum(-1)
        return chosen, spread, out.hidden_states[-1] if hidden else None

    def in_tiles(
        self, batch: TokenBatch, columns: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`plainly`, without the logits, and only where ``batch.mask`` asks for them."""
        assert self.fused is not None
        model: Any = self.model
        last = model.get_decoder()(input_ids=batch.input_ids, use_cache=False).last_hidden_state
        linear, inside = model.get_output_embeddings(), batch.mask[:, columns]
        found = fused_logprobs(
            last[:, columns][inside], linear.weight, linear.bias, targets[inside], self.fused
        )
        chosen, spread = (flat.new_zeros(inside.shape).index_put((inside,), flat) for flat in found)
        return chosen, spread, last
