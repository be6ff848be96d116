"""Rollouts that are written ahead of the updates, by the weights of a fixed number of rollouts ago."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from nft_lightning.rollouts import serialized as packing
from nft_lightning.training.background import Background, done, succeeded
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

    Args:
        max_staleness: s.
    """

    def __init__(self, max_staleness: int) -> None:
        self.max_staleness = max_staleness
        self.waiting: deque[Future[Written]] = deque()
        self.background: Background | None = None

    def write_beside_training(self) -> None:
        """Write on a thread of its own from now on: the engine does not need this process."""
        if self.max_staleness and self.background is None:
            self.background = Background()

    def fill(self, write: Callable[[int, int], Written], cursor: int, index: int) -> Written:
        """Return the oldest rollout, which stays until :meth:`taken`; write those that are missing.

        Who leaves while it waits forgets what is not whole: the same weights will write it again.

        Args:
            write: writes the rollout of a cursor and an index with the current weights.
            cursor, index: of the first rollout that is not yet taken.
        """
        there = len(self.waiting)
        while len(self.waiting) <= self.max_staleness:
            before = self.waiting[-1] if self.waiting else done(Written(Rollout((), -1), cursor))
            place = index + len(self.waiting)
            task = partial(write_after, before, write, place)
            self.waiting.append(self.background.run(task) if self.background else done(task()))
        try:
            return self.waiting[0].result()
        except BaseException:
            while len(self.waiting) > there and not succeeded(self.waiting[-1]):
                self.waiting.pop()
            raise

    def taken(self) -> None:
        """Forget the oldest rollout, whose batches are made."""
        self.waiting.popleft()

    def settle(self) -> None:
        """Wait until nothing is being written; raise what went wrong."""
        for future in self.waiting:
            future.result()

    def state(self) -> list[dict[str, Any]]:
        """Return the waiting rollouts as plain data, once they are written."""
        written = [future.result() for future in self.waiting]
        return [{"rollout": packing.pack_rollout(w.rollout), "cursor": w.cursor} for w in written]

    def load(self, state: Sequence[dict[str, Any]]) -> None:
        """Continue with what :meth:`state` gave; rollouts beyond ``max_staleness`` are written again."""
        self.waiting.clear()
        for packed in state[: self.max_staleness]:
            rollout = packing.unpack_rollout(packed["rollout"])
            self.waiting.append(done(Written(rollout, packed["cursor"])))


def write_after(before: Future[Written], write: Callable[[int, int], Written], index: int) -> Written:
    """Return rollout ``index``, of the problems that come after those of ``before``."""
    return write(before.result().cursor, index)
