from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nft_lightning.batching.bins import PASS_COST_TOKENS, pack
from nft_lightning.batching.layout import layout
from nft_lightning.objectives import NFT
from nft_lightning.objectives.base import Outcomes
from nft_lightning.types import Completion, Group, Problem, Rollout, Verdict


def cost(sizes, runs):
    return sum(sum(sizes[i][0] for i in r) * sizes[r[-1]][1] + PASS_COST_TOKENS for r in runs)


def cheapest(sizes, budget):
    """By trying every cut."""
    found = []
    for cuts in itertools.product((False, True), repeat=len(sizes) - 1):
        edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(sizes)]
        runs = [range(a, b) for a, b in itertools.pairwise(edges)]
        if all(len(r) == 1 or sum(sizes[i][0] for i in r) * sizes[r[-1]][1] <= budget for r in runs):
            found.append(cost(sizes, runs))
    return min(found)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 300)), min_size=1, max_size=9),
    st.integers(1, 4000),
)
def test_packing_is_the_cheapest_within_the_budget(sizes, budget):
    sizes = sorted(sizes, key=lambda s: s[1])
    runs = pack(sizes, budget)
    assert [i for r in runs for i in r] == list(range(len(sizes)))
    for run in runs:
        assert len(run) == 1 or sum(sizes[i][0] for i in run) * sizes[run[-1]][1] <= budget
    assert cost(sizes, runs) == cheapest(sizes, budget)


def long_tailed(groups: int, k: int) -> Rollout:
    """Answers of some 600 tokens, one in twenty beyond 2,000, cut at 4,096."""
    rng, made = random.Random(0), []
    for g in range(groups):
        lengths = [min(4096, int(rng.lognormvariate(6.2, 0.9)) + 1) for _ in range(k)]
        completions = tuple(Completion((5,) * n, "", (-1.0,) * n, False, 0) for n in lengths)
        rewards = tuple(float(i % 2) for i in range(k))
        verdicts = tuple(Verdict("correct" if r else "wrong") for r in rewards)
        prompt = (4,) * rng.randint(30, 200)
        made.append(Group(Problem(str(g), "", ""), prompt, completions, verdicts, rewards))
    return Rollout(tuple(made), 0)


@pytest.mark.parametrize("world_size", [1, 2])
def test_little_padding_on_a_long_tail(world_size):
    rollout = long_tailed(128, 16)
    signal = NFT().prepare(Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths))
    padded, real, started = 0, [], time.perf_counter()
    for rank in range(world_size):
        batches = layout(
            rollout,
            signal,
            updates=4,
            max_tokens_per_micro_batch=16_384,
            reduction="token_mean",
            max_new_tokens=4096,
            seed=0,
            rank=rank,
            world_size=world_size,
        )
        micro = [m for b in batches for m in b.micro_batches]
        assert max(m.input_ids.numel() for m in micro) <= 16_384
        padded += sum(m.input_ids.numel() for m in micro)
        real.append(sum(int(m.attention_mask.sum()) for m in micro))
    assert sum(real) == sum(
        len(g.prompt_ids) + len(c.token_ids) for g in rollout.groups for c in g.completions
    )
    assert 1 - sum(real) / padded < 0.05
    assert max(real) < 1.02 * min(real)
    assert time.perf_counter() - started < 60


def test_thousands_of_rows_are_packed_at_once():
    rng = random.Random(0)
    sizes = sorted(((1, rng.randint(1, 30_000)) for _ in range(4096)), key=lambda s: s[1])
    started = time.perf_counter()
    assert len(pack(sizes, 65_536)) > 100
    assert time.perf_counter() - started < 20
