"""Which rows share a micro-batch: as little padding as pays, under a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# What one more forward and backward pass costs beside its tokens, in tokens.
PASS_COST_TOKENS = 64


def pack(sizes: Sequence[tuple[int, int]], budget: int) -> list[range]:
    """Runs of items that share a micro-batch, of the least padded tokens plus the passes' own cost.

    Args:
        sizes: (rows, tokens of the longest row) of each item, by rising tokens.
        budget: rows times longest row that a micro-batch may hold; a larger item has one to itself.
    """
    rows = np.array([0, *(count for count, _ in sizes)]).cumsum()
    # least[j]: what items 0 to j - 1 cost at best; start[j]: where their last micro-batch begins.
    least, start = np.zeros(len(sizes) + 1), np.zeros(len(sizes) + 1, dtype=np.int64)
    for j, (_, width) in enumerate(sizes, 1):
        tokens = (rows[j] - rows[:j]) * width
        first = min(j - 1, int((tokens > budget).sum()))
        costs = least[first:j] + tokens[first:] + PASS_COST_TOKENS
        best = int(costs.argmin())
        least[j], start[j] = costs[best], first + best
    found = []
    stop = len(sizes)
    while stop:
        found.append(range(int(start[stop]), stop))
        stop = int(start[stop])
    return found[::-1]
