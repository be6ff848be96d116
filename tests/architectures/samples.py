"""Completions of random prompts, and how far their log-probabilities are from the trainer's forward."""

from __future__ import annotations

import torch

from nft_lightning.batching.layout import Row, token_batch
from nft_lightning.types import Sampling, Signal
from tests.architectures.table import TEMPERATURE, WORDS

PROMPT_TOKENS = (3, 21, 8, 30)
COMPLETIONS = 4
NEW_TOKENS = 24


def prompts_of(lengths=PROMPT_TOKENS):
    generator = torch.Generator().manual_seed(7)
    return [tuple(torch.randint(6, WORDS - 4, (n,), generator=generator).tolist()) for n in lengths]


def written(engine, chosen=None):
    """Return prompts, all or the ``chosen`` numbers, and groups of completions; some end early."""
    chosen = range(len(PROMPT_TOKENS)) if chosen is None else chosen
    prompts = [prompts_of()[i] for i in chosen]
    seeds = [[100 * i + k for k in range(COMPLETIONS)] for i in chosen]
    return prompts, engine.generate(prompts, Sampling(TEMPERATURE, NEW_TOKENS), seeds)


def batch_of(prompts, groups):
    rows = [
        Row(prompt, completion, 1.0, i, i)
        for i, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
        for completion in group
    ]
    return token_batch(rows, Signal({}, torch.ones(len(rows))), 0)


@torch.no_grad()
def largest_gap(policy, prompts, groups):
    """Return the largest difference of any token, each row forwarded by itself without a cache."""
    found = 0.0
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            batch = batch_of([prompt], [[completion]])
            gap = (policy(batch).logprobs - batch.engine_logprobs)[batch.mask].abs().max()
            found = max(found, float(gap))
    return found
