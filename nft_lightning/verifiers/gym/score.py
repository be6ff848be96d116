"""The score of one answer by reasoning-gym. Runs in a worker, which is killed when it takes too long."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import reasoning_gym

from nft_lightning.verdict import Verdict


def judge(how: str, answer: str, gold: str) -> Verdict:
    """Return the verdict on one answer; 1 or more is correct, and the score is kept.

    Args:
        how: the task's name and its options, written by ``repr``.
        gold: the entry that was asked, written by ``repr``: JSON would turn tuples into lists.

    Raises:
        ValueError: the scorer returns no finite number.
    """
    score = float(dataset(how).score_answer(answer, ast.literal_eval(gold)))
    if not math.isfinite(score):
        raise ValueError(f"the scorer returned {score}")
    return Verdict("correct" if score >= 1 else "wrong", score=score)


@lru_cache(maxsize=64)
def dataset(how: str) -> Any:
    """Return the generator that wrote the entry: some scorers read its options."""
    task, options = ast.literal_eval(how)
    return reasoning_gym.create_dataset(task, **options)


def prepare() -> Sequence[Callable[[], object]]:
    """Return nothing: the library has no caches to fill."""
    return []
