"""The trained model as a function from a token batch to log-probabilities."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from nft_lightning.policy.logprobs import Head, fused_logprobs
from nft_lightning.policy.packed import View, flat, padded, rows_again
from nft_lightning.policy.private_transformers import flash, rows_known
from nft_lightning.policy.shape import shape_of, text_config
from nft_lightning.types import Numbers, TokenBatch

if TYPE_CHECKING:
    from nft_lightning.policy.config import PolicyConfig

WINDOWS = ("sliding_window", "attention_chunk_size")
LONGEST_TRIED = 4096


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
        # How it was loaded; None is by a model's own ``load``, with all as it is by default.
        self.config: PolicyConfig | None = None
        # What the fused way needs to know of the model's head; None is the plain way.
        self.fused: Head | None = None
        self.padding_free = False
        # Whether the two above were tried on the model.
        self.tried = False
        # None until a run knows its precision: the parameters' own type.
        self.numbers = Numbers()

    def forward(
        self, batch: TokenBatch, *, entropy_gradient: bool = False, hidden: bool = False
    ) -> PolicyOutput:
        """Return log-probability of each predicted token; positions outside ``batch.mask`` hold 0."""
        view = flat(batch) if self.padding_free else padded(batch)
        if self.fused is None:
            chosen, spread, last = self.plainly(view, entropy_gradient, hidden)
        else:
            chosen, spread, last = self.in_tiles(view)
        if not hidden:
            last = None
        elif last is not None and self.padding_free:
            last = rows_again(last, batch)
        return PolicyOutput(
            in_rows(chosen, batch),
            in_rows(spread if entropy_gradient else spread.detach(), batch),
            None if last is None else last[:, :-1].detach(),
        )

    def plainly(
        self, view: View, entropy_gradient: bool, hidden: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-probabilities and entropies [P] by way of the logits; the last hidden states."""
        options = {"output_hidden_states": True} if hidden else {}
        with rows_known(several=view.edges is not None):
            out = self.model(**asked(view, self.model), logits_to_keep=view.columns, **options)
        logits = out.logits if out.logits.dtype == torch.float64 else out.logits.float()
        logits = logits / self.temperature
        normalizer = logits.logsumexp(-1)
        chosen = logits.gather(-1, view.targets[..., None])[..., 0] - normalizer
        with nullcontext() if entropy_gradient else torch.no_grad():
            spread = normalizer - (logits.softmax(-1) * logits).sum(-1)
        chosen, spread = (x.flatten().index_select(0, view.inside) for x in (chosen, spread))
        return chosen, spread, out.hidden_states[-1] if hidden else None

    def in_tiles(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`plainly`, without the logits, and only where the batch's mask asks for them."""
        assert self.fused is not None
        model: Any = self.model
        with rows_known(several=view.edges is not None):
            last = model.get_decoder()(**asked(view, model)).last_hidden_state
        linear, states = model.get_output_embeddings(), last.flatten(0, 1).index_select(0, view.states)
        targets = view.targets.flatten().index_select(0, view.inside)
        chosen, spread = fused_logprobs(states, linear.weight, linear.bias, targets, self.fused)
        return chosen, spread, last


def in_rows(found: Tensor, batch: TokenBatch) -> Tensor:
    """Return [B, T]: the numbers ``found`` [P] of the predicted tokens, and 0 elsewhere."""
    empty = found.new_zeros(batch.mask.numel())
    return empty.index_copy(0, batch.known_places.predicted, found).view(batch.mask.shape)


def asked(view: View, model: Any) -> dict[str, Any]:
    """Return the arguments of a forward pass of ``model``."""
    given: dict[str, Any] = {"input_ids": view.input_ids, "use_cache": False}
    if view.position_ids is not None:
        given["position_ids"] = view.position_ids
    if view.edges is not None and flash(model):
        given |= {"cu_seq_lens_q": view.edges, "cu_seq_lens_k": view.edges}
        given |= {"max_length_q": view.longest, "max_length_k": view.longest}
    return given


@torch.no_grad()
def keeps_rows_apart(policy: Policy) -> bool:
    """Return whether rows have the same log-probabilities end to end as they have padded.

    They are longer than the model's sliding window, if it is not too long to be tried.
    """
    device, config = next(policy.parameters()).device, cast(Any, policy.model.config)
    length = tried_tokens(config)
    ids = torch.arange(1, 2 * length + 1, device=device).view(2, length) % shape_of(config).vocab_size
    there = torch.ones_like(ids)
    there[0, length - 2 :] = 0
    empty = torch.zeros(2, length - 1, device=device)
    batch = TokenBatch(ids, there, there[:, 1:].bool(), empty, empty, {})
    columns = padded(batch), flat(batch)
    try:
        first, second = (policy.plainly(view, False, False)[0] for view in columns)
    except (ValueError, RuntimeError, TypeError, IndexError):
        return False
    bound = 1e-3 if next(policy.parameters()).dtype == torch.float32 else 0.1
    return bool((first - second).abs().max() < bound)


def tried_tokens(config: Any) -> int:
    """Return the length of a row that shows whether windows and chunks keep to their rows."""
    text = text_config(config)
    windows = [getattr(text, name, None) or 0 for name in WINDOWS]
    return max([6, *(w + 6 for w in windows if w <= LONGEST_TRIED)])
