"""Rollout -> optimizer batches: pure functions that every rank computes alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from nft_lightning.batching.weights import token_weights
from nft_lightning.types import Completion, OptimizerBatch, Rollout, Signal, TokenBatch


@dataclass(frozen=True)
class Row:
    """One completion with its prompt, its weight a token, its row in the signal and its group."""

    prompt_ids: tuple[int, ...]
    completion: Completion
    weight: float
    index: int
    group: int

    @property
    def tokens(self) -> int:
        """Prompt and completion."""
        return len(self.prompt_ids) + len(self.completion.token_ids)


def split_groups(count: int, parts: int, seed: int) -> list[list[int]]:
    """Group indices shuffled by ``seed`` and dealt into exactly ``parts`` lists, some perhaps empty."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    edges = [round(i * count / parts) for i in range(parts + 1)]
    return [order[a:b] for a, b in pairwise(edges)]


def layout(
    rollout: Rollout,
    signal: Signal,
    *,
    updates: int,
    micro_batch_size: int,
    reduction: str,
    max_new_tokens: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    pad_id: int = 0,
    whole_groups: bool = False,
) -> list[OptimizerBatch]:
    """Exactly ``updates`` optimizer batches, each of whole groups.

    Token weights are fixed here over the *global* optimizer batch, so that micro-batches and
    ranks only have to be summed. Every rank gets as many micro-batches as every other. With
    ``whole_groups`` the kept rows of a group stay in one micro-batch of one rank.
    """
    offsets = [0]
    for group in rollout.groups:
        offsets.append(offsets[-1] + len(group.completions))
    lengths = rollout.lengths if rollout.groups else torch.zeros(0, dtype=torch.long)
    batches = []
    for step, members in enumerate(split_groups(len(rollout.groups), updates, seed)):
        index = torch.tensor([i for g in members for i in range(offsets[g], offsets[g + 1])]).long()
        keep = signal.keep[index]
        weights = token_weights(lengths[index], keep, reduction, max_new_tokens).tolist()
        pairs = [(g, c) for g in members for c in rollout.groups[g].completions]
        rows = [
            Row(rollout.groups[g].prompt_ids, completion, weight, i, g)
            for (g, completion), weight, i in zip(pairs, weights, index.tolist(), strict=True)
            if weight > 0
        ]
        cut = group_batches if whole_groups else micro_batches
        micro = cut(rows, micro_batch_size, rank, world_size)
        batches.append(
            OptimizerBatch(
                [token_batch(part, signal, pad_id) for part in micro], step, rollout.policy_version
            )
        )
    return batches


def micro_batches(rows: list[Row], size: int, rank: int, world_size: int) -> list[list[Row]]:
    """This rank's micro-batches of at most ``size`` rows, rows of like length together."""
    ordered = sorted(rows, key=lambda r: (r.tokens, r.index))
    own = ordered[rank::world_size]
    most = len(ordered[0::world_size])
    count = -(-most // size)
    parts = [own[i : i + size] for i in range(0, len(own), size)]
    return parts + [[]] * (count - len(parts))


def group_batches(rows: list[Row], size: int, rank: int, world_size: int) -> list[list[Row]]:
    """As :func:`micro_batches`, of whole groups: ``size`` is rounded up to a number of the largest."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    ordered = sorted(groups.values(), key=lambda g: (max(r.tokens for r in g), g[0].index))
    own = ordered[rank::world_size]
    each = -(-size // max((len(g) for g in ordered), default=1))
    count = -(-len(ordered[0::world_size]) // each)
    parts = [[r for g in own[i : i + each] for r in g] for i in range(0, len(own), each)]
    return parts + [[]] * (count - len(parts))


def token_batch(rows: Sequence[Row], signal: Signal, pad_id: int) -> TokenBatch:
    """Right-padded tensors; no rows give one masked row of two tokens, which adds nothing."""
    if not rows:
        empty = torch.zeros(1, 1)
        return TokenBatch(
            torch.full((1, 2), pad_id),
            torch.ones(1, 2, dtype=torch.long),
            empty.bool(),
            empty,
            empty,
            {k: torch.full((1,), 0.5, dtype=v.dtype) for k, v in signal.values.items()},
        )
    width = max(r.tokens for r in rows)
    ids = torch.full((len(rows), width), pad_id)
    attention = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width - 1, dtype=torch.bool)
    engine = torch.zeros(len(rows), width - 1)
    for i, row in enumerate(rows):
        start, stop = len(row.prompt_ids), row.tokens
        ids[i, :stop] = torch.tensor(row.prompt_ids + row.completion.token_ids)
        attention[i, :stop] = 1
        mask[i, start - 1 : stop - 1] = True
        engine[i, start - 1 : stop - 1] = torch.tensor(row.completion.logprobs)
    weight = torch.tensor([r.weight for r in rows])[:, None] * mask
    index = torch.tensor([r.index for r in rows])
    values = {k: v[index] for k, v in signal.values.items()}
    return TokenBatch(ids, attention, mask, weight, engine, values)
