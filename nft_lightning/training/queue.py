"""Rollouts that are written ahead of the updates, by the weights of a fixed number of rollouts ago."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nft_lightning.rollouts import serialized as packing
from nft_lightning.types import Rollout


@dataclass(frozen=True)
class Written:
    """A rollout, and the number of the first problem after it."""

    rollout: Rollout
    cursor: int


class RolloutQueue:
    """Holds the rollouts that are written and not yet trained on, the oldest first.

    With ``max_staleness`` s, rollout i is written by the weights that rollout i - s begins with, and the
    first s + 1 by the initial weights. So the same seed gives the same rollouts, however long writing
    and training take.
    """

    def __init__(self, max_staleness: int) -> None:
        self.max_staleness = max_staleness
        self.waiting: deque[Written] = deque()

    def fill(self, write: Callable[[int, int], Written], cursor: int, index: int) -> Written:
        """Return the oldest rollout, which stays until :meth:`taken`; write those that are missing.

        Args:
            write: writes the rollout of a cursor and an index with the current weights.
            cursor, index: of the first rollout that is not yet taken.
        """
        while len(self.waiting) <= self.max_staleness:
            start = self.waiting[-1].cursor if self.waiting else cursor
            self.waiting.append(write(start, index + len(self.waiting)))
        return self.waiting[0]

    def taken(self) -> None:
        """Forget the oldest rollout, whose batches are made."""
        self.waiting.popleft()

    def state(self) -> list[dict[str, Any]]:
        """Return the waiting rollouts as plain data."""
        return [
            {"rollout": packing.pack_rollout(written.rollout), "cursor": written.cursor}
            for written in self.waiting
        ]

    def load(self, state: Sequence[dict[str, Any]]) -> None:
        """Continue with what :meth:`state` gave; rollouts beyond ``max_staleness`` are written again."""
        self.waiting.clear()
        for packed in state[: self.max_staleness]:
            self.waiting.append(Written(packing.unpack_rollout(packed["rollout"]), packed["cursor"]))
