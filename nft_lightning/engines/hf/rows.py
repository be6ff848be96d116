"""Completions in progress of a transformers model: what the next token of each row is drawn from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from nft_lightning.engines.base import Prompt
from nft_lightning.engines.hf.cache import select, selectable, with_room

log = logging.getLogger(__name__)
# Largest gap of a log-probability on the trial of a cache, by what is computed in.
GAPS = {"single": 2e-4, "half": 0.5}
TRIED_TOKENS = 8
VOCABULARY_TRIED = 32


class Rows(Protocol):
    """Rows that grow by a token at a time."""

    logits: Tensor

    def keep(self, going: Tensor) -> None:
        """Only these rows [B] bool continue."""
        ...

    def extend(self, tokens: Tensor) -> None:
        """Append a token [B] to each row; ``logits`` [B, V] are then those of the token after it."""
        ...


class Starter:
    """Begins rows of one model, and knows whether its cache can be trusted.

    A cache that holds more than keys and values is tried once: some models step through their states
    otherwise than they read whole rows, and log-probabilities would not be the trainer's.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.exact: bool | None = None

    def rows(self, prompts: Sequence[Prompt], owner: Tensor, pad: int) -> Rows:
        """Return rows that continue ``prompts[owner[i]]``, each prompt read once.

        Args:
            owner: [B] int64, on the model's device. pad: the id that fills shorter prompts.
        """
        if self.exact is not False:
            found = self.cached(prompts, owner, pad)
            if self.exact is None:
                self.exact = found is not None and (not found.holds_states() or self.tried(pad))
            if self.exact and found is not None:
                return found
            name = type(self.model).__name__
            log.warning("%s is sampled without a cache, which is slow: its cache is not exact", name)
        return WholeRows(self.model, prompts, owner, pad)

    def cached(self, prompts: Sequence[Prompt], owner: Tensor, pad: int) -> CachedRows | None:
        """Return the rows with a cache; None where the model has none whose rows can be selected."""
        device = owner.device
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
        attention = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        position = (attention.cumsum(1) - 1).clamp(min=0)
        out = self.model(
            input_ids=ids,
            attention_mask=attention,
            position_ids=position,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = getattr(out, "past_key_values", None)
        if not selectable(cache):
            return None
        with_room(cache, owner)
        next_position = position[owner, -1:] + 1
        return CachedRows(self.model, cache, out.logits[owner, -1], attention[owner], next_position)

    def tried(self, pad: int) -> bool:
        """Return whether the cache gives the log-probabilities of whole rows, padded and selected."""
        parameter = next(self.model.parameters())
        ids = [i % VOCABULARY_TRIED for i in range(1, 20)]
        prompts, owner = [tuple(ids[:3]), tuple(ids[3:16])], [0, 0, 1, 1]
        rows = torch.tensor(owner, device=parameter.device)
        both = self.cached(prompts, rows, pad), WholeRows(self.model, prompts, rows, pad)
        going = torch.tensor([True, False, True, True], device=parameter.device)
        half = torch.is_autocast_enabled(parameter.device.type) or parameter.dtype != torch.float32
        bound = GAPS["half" if half else "single"]
        for step in range(TRIED_TOKENS):
            first, second = (r.logits.float().log_softmax(-1) for r in both if r is not None)
            if not bool((first - second).abs().max() < bound):
                return False
            count = 4 if step == 0 else 3
            tokens = torch.arange(5 + step, 5 + step + count, device=parameter.device)
            for each in both:
                assert each is not None
                if step == 1:
                    each.keep(going)
                each.extend(tokens)
        return True


class CachedRows:
    """Rows whose keys, values and states are kept from token to token.

    Args:
        logits: [B, V]. attention: [B, T], 0 at the padding on the left. position: [B, 1], the next.
    """

    def __init__(
        self, model: Any, cache: Any, logits: Tensor, attention: Tensor, position: Tensor
    ) -> None:
        self.model = model
        self.cache = cache
        self.logits = logits
        self.attention = attention
        self.position = position

    def holds_states(self) -> bool:
        """Return whether the cache holds more of a row than keys and values."""
        return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in self.cache.layers)

    def keep(self, going: Tensor) -> None:
        """See :class:`Rows`."""
        select(self.cache, going.nonzero()[:, 0])
        self.attention = self.attention[going]
        self.position = self.position[going]

    def extend(self, tokens: Tensor) -> None:
        """See :class:`Rows`."""
        self.attention = torch.cat([self.attention, self.attention.new_ones(len(tokens), 1)], 1)
        out = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.attention,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits = out.logits[:, -1]
        self.position = self.position + 1


class WholeRows:
    """Rows of a model without such a cache (Mamba, RWKV ...): all tokens are read again at each step.

    Slower, and right for every causal model: padding is on the right, where no token sees it.
    """

    def __init__(self, model: Any, prompts: Sequence[Prompt], owner: Tensor, pad: int) -> None:
        self.model = model
        self.pad = pad
        width = max(map(len, prompts))
        ids = torch.tensor([list(p) + [pad] * (width - len(p)) for p in prompts], device=owner.device)
        lengths = torch.tensor([len(p) for p in prompts], device=owner.device)
        self.logits = self.read(ids, lengths)[owner]
        self.ids = ids[owner]
        self.lengths = lengths[owner]

    def read(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits [B, V] behind the last token of each row of ids [B, T]."""
        columns, place = torch.unique(lengths - 1, return_inverse=True)
        out = self.model(input_ids=ids, use_cache=False, logits_to_keep=columns)
        found: Tensor = out.logits[torch.arange(len(ids), device=ids.device), place]
        return found

    def keep(self, going: Tensor) -> None:
        """See :class:`Rows`."""
        self.ids = self.ids[going]
        self.lengths = self.lengths[going]

    def extend(self, tokens: Tensor) -> None:
        """See :class:`Rows`."""
        if int(self.lengths.max()) == self.ids.shape[1]:
            more = self.ids.new_full((len(self.ids), 1), self.pad)
            self.ids = torch.cat([self.ids, more], 1)
        self.ids[torch.arange(len(tokens), device=tokens.device), self.lengths] = tokens
        self.lengths = self.lengths + 1
        self.logits = self.read(self.ids, self.lengths)
