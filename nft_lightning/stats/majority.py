"""maj@k: is the answer that most of k samples give the right one?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb

from nft_lightning.verdict import Verdict


def majority_at_k(verdicts: Sequence[Verdict], k: int) -> float:
    """Return the mean of the vote's result over all choices of k of the samples, exactly.

    Right answers are one class, whatever their form; wrong ones are classes by their text; a sample
    without an answer does not vote. Where t other answers have as many votes as the right one, the
    vote counts 1 / (1 + t). Self-consistency as in arXiv 2203.11171, without its single draw.

    Raises:
        ValueError: fewer than k samples, or k below 1.
    """
    if not 1 <= k <= len(verdicts):
        raise ValueError(f"a vote of {k} needs as many samples, there are {len(verdicts)}")
    right = sum(v.correct for v in verdicts)
    wrong = Counter(v.extracted for v in verdicts if not v.correct and v.extracted is not None)
    silent = len(verdicts) - right - sum(wrong.values())
    total = 0.0
    for votes in range(1, min(right, k) + 1):
        # ways[n][t]: choices of n samples among the others so that t answers tie and none wins.
        ways = [[comb(silent, n)] for n in range(k - votes + 1)]
        for count in wrong.values():
            ways = with_answer(ways, count, votes)
        total += comb(right, votes) * sum(w / (1 + t) for t, w in enumerate(ways[k - votes]))
    return total / comb(len(verdicts), k)


def with_answer(ways: list[list[int]], count: int, votes: int) -> list[list[int]]:
    """``ways`` with one more wrong answer that ``count`` samples gave and fewer than ``votes`` win."""
    most = len(ways) - 1
    choices = [comb(count, taken) for taken in range(min(count, votes, most) + 1)]
    # So many answers with ``votes`` votes each are all that fit.
    made = [[0] * min(len(ways[0]) + 1, most // votes + 1) for _ in ways]
    for n, by_ties in enumerate(ways):
        for t, w in enumerate(by_ties):
            if w == 0:
                continue
            for taken, ways_to_take in enumerate(choices[: most - n + 1]):
                made[n + taken][t + (taken == votes)] += w * ways_to_take
    return made
