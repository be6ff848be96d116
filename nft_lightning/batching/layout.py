"""Rollout -> optimizer batches: pure functions that every rank computes alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

from nft_lightning.batching.aligned import aligned
from nft_lightning.batching.bins import pack
from nft_lightning.batching.reduction import token_weights
from nft_lightning.types import Completion, OptimizerBatch, Rollout, Signal, TokenBatch

T = TypeVar("T")


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


def split(count: int, parts: int, seed: int) -> list[list[int]]:
    """Return numbers below ``count``, shuffled by ``seed``, in exactly ``parts`` lists, some perhaps
    empty.
    """
    order = list(range(count))
    random.Random(seed).shuffle(order)
    edges = [round(i * count / parts) for i in range(parts + 1)]
    return [order[a:b] for a, b in pairwise(edges)]


def grouped(items: Iterable[T], key: Callable[[T], int]) -> list[list[T]]:
    """Items of one ``key`` together, in the order of their first."""
    found: dict[int, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def layout(
    rollout: Rollout,
    signal: Signal,
    *,
    updates: int,
    max_tokens_per_micro_batch: int,
    reduction: str,
    max_new_tokens: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    pad_id: int = 0,
    whole_groups: bool = False,
    minibatch_unit: str = "group",
) -> list[OptimizerBatch]:
    """Exactly ``updates`` optimizer batches, each of whole groups or of whichever completions.

    Token weights are fixed here over the *global* optimizer batch, so that micro-batches and
    ranks only have to be summed. Every rank gets as many micro-batches as every other. Completions
    without a gradient (``signal.zero_gradient``) weigh in the denominators and are not laid out. With
    ``whole_groups`` the kept rows of a group stay in one micro-batch of one rank; ``minibatch_unit``
    is then ``group``.
    """
    owners = [g for g, group in enumerate(rollout.groups) for _ in group.completions]
    completions = [c for group in rollout.groups for c in group.completions]
    # What goes to the same update: the rows of one group, or one row.
    units = grouped(range(len(owners)), int if minibatch_unit == "completion" else owners.__getitem__)
    lengths = rollout.lengths if rollout.groups else torch.zeros(0, dtype=torch.long)
    computed = signal.computed.tolist()
    batches = []
    for step, members in enumerate(split(len(units), updates, seed)):
        index = torch.tensor([i for unit in members for i in units[unit]]).long()
        weights = token_weights(lengths[index], signal.keep[index], reduction, max_new_tokens).tolist()
        rows = [
            Row(rollout.groups[owners[i]].prompt_ids, completions[i], weight, i, owners[i])
            for i, weight in zip(index.tolist(), weights, strict=True)
            if weight > 0 and computed[i]
        ]
        micro = micro_batches(rows, max_tokens_per_micro_batch, rank, world_size, whole_groups)
        if not micro and any(weights):
            # The optimizer still takes its step, with a gradient of 0.
            micro = [[]]
        batches.append(
            OptimizerBatch(
                [token_batch(part, signal, pad_id) for part in micro], step, rollout.policy_version
            )
        )
    return batches


def micro_batches(
    rows: list[Row], budget: int, rank: int, world_size: int, whole_groups: bool
) -> list[list[Row]]:
    """This rank's micro-batches of rows of like length, each within ``budget`` padded tokens.

    Rows, or groups, are distributed over the ranks in the order of length, so that the ranks' tokens
    differ by less than the longest.
    """
    units = grouped(rows, lambda row: row.group if whole_groups else row.index)
    ordered = sorted(units, key=lambda unit: (longest(unit), unit[0].index))
    dealt = [ordered[place::world_size] for place in range(world_size)]
    packed = [pack([(len(unit), longest(unit)) for unit in own], budget) for own in dealt]
    parts = [[row for i in run for row in dealt[rank][i]] for run in packed[rank]]
    return parts + [[]] * (max(map(len, packed)) - len(parts))


def longest(rows: list[Row]) -> int:
    """Return tokens of the longest row."""
    return max(row.tokens for row in rows)


def token_batch(rows: Sequence[Row], signal: Signal, pad_id: int) -> TokenBatch:
    """Right-padded tensors; no rows give one masked row of two tokens, which adds nothing."""
    if not rows:
        empty = torch.zeros(1, 1)
        return TokenBatch(
            torch.full((1, 2), pad_id),
            torch.zeros(1, 2, dtype=torch.long),
            empty.bool(),
            empty,
            empty,
            {
                **{k: torch.full((1,), 0.5, dtype=v.dtype) for k, v in signal.values.items()},
                **{k: torch.zeros(1, 1, dtype=v[0].dtype) for k, v in signal.token_values.items()},
            },
        )
    width = max(r.tokens for r in rows)
    ids = np.full((len(rows), width), pad_id, np.int64)
    attention = np.zeros((len(rows), width), np.int64)
    own = np.zeros((len(rows), width - 1), np.bool_)
    logprobs = np.zeros((len(rows), width - 1), np.float32)
    for i, row in enumerate(rows):
        start, stop = len(row.prompt_ids), row.tokens
        ids[i, :start] = row.prompt_ids
        ids[i, start:stop] = row.completion.token_ids
        attention[i, :stop] = 1
        own[i, start - 1 : stop - 1] = True if row.completion.mask is None else row.completion.mask
        logprobs[i, start - 1 : stop - 1] = row.completion.logprobs
    mask, engine = torch.from_numpy(own), torch.from_numpy(logprobs)
    weight = torch.tensor([r.weight for r in rows])[:, None] * mask
    index = torch.tensor([r.index for r in rows])
    values = {k: v[index] for k, v in signal.values.items()}
    for name, tokens in signal.token_values.items():
        values[name] = aligned([tokens[row.index] for row in rows], mask)
    return TokenBatch(torch.from_numpy(ids), torch.from_numpy(attention), mask, weight, engine, values)
