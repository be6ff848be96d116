"""What Lightning iterates: loaders with a length that are no DataLoader, so that it changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any


class LazyBatches:
    """Batches that are made when they are iterated, once an epoch, and counted before.

    Lightning would give a DataLoader a sampler for several ranks, although each rank has its own share.
    """

    def __init__(self, make: Callable[[], Sequence[Any]], length: int) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        yield from self.make()
