from __future__ import annotations

import pickle
import random

from hypothesis import given
from hypothesis import strategies as st

from nft_lightning.distributed import ranks
from nft_lightning.errors import UserError
from nft_lightning.rollouts.partition import share


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 9))
def test_shares_hold_each_prompt_once_and_are_balanced(count, shares, seed):
    rng = random.Random(seed)
    prompts = [(1,) * rng.randint(1, 200) for _ in range(count)]
    found = [share(prompts, place, shares) for place in range(shares)]
    assert sorted(i for part in found for i in part) == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    tokens = [sum(len(prompts[i]) for i in part) for part in found]
    assert max(tokens) - min(tokens) <= max(map(len, prompts), default=0)


def test_an_error_reaches_another_rank_whole():
    error = UserError("a.b", 3, "is odd", "use 4")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, UserError)
    assert str(again) == str(error)
    assert str(ranks.sendable(error)) == str(error)


def test_an_error_that_can_not_travel_becomes_its_text():
    error = ValueError("bad", lambda: None)
    assert isinstance(ranks.sendable(error), RuntimeError)
    assert str(ranks.sendable(error)).startswith("ValueError: ('bad'")
