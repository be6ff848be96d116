"""What one rank does for all: servers are asked once, not by every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def several() -> bool:
    """Whether other ranks train along."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def first() -> bool:
    """Whether this is the rank that speaks for all."""
    return not several() or dist.get_rank() == 0


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` returns on the first rank, on every rank; so with what it raises."""
    if not several():
        return make()
    box: list[Any] = [None, None]
    if first():
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, 0)
    if box[1] is not None:
        raise box[1]
    result: T = box[0]
    return result


def from_all(mine: T) -> list[T]:
    """What every rank has, rank by rank."""
    if not several():
        return [mine]
    box: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(box, mine)
    return box
