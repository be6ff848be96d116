"""What one rank does for all, and what each does for the others."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch.distributed as dist

T = TypeVar("T")


def several() -> bool:
    """Return whether other ranks train along."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def lost_another_rank(error: RuntimeError) -> bool:
    """Return whether ``error`` only says that another rank has ended, which says why itself."""
    if not several():
        return False
    return isinstance(error, dist.DistError) or any(name in str(error) for name in ("gloo", "NCCL"))


def first() -> bool:
    """Return whether this is the rank that speaks for all."""
    return not several() or dist.get_rank() == 0


def broadcast_from_rank0(make: Callable[[], T]) -> T:
    """Return what ``make`` returns on the first rank, on every rank; so with what it raises."""
    if not several():
        return make()
    box: list[Any] = [None, None]
    if first():
        try:
            box[0] = make()
        except BaseException as error:
            box[1] = sendable(error)
    dist.broadcast_object_list(box, 0)
    if box[1] is not None:
        raise box[1]
    result: T = box[0]
    return result


def own_part(parts: list[T]) -> T:
    """Return this rank's part of what :func:`gather_objects` gave, perhaps before a checkpoint.

    Where it was written by another number of ranks, that is the first rank's.
    """
    together = dist.get_world_size() if several() else 1
    return parts[dist.get_rank() if several() and len(parts) == together else 0]


def gather_objects(mine: T) -> list[T]:
    """Return what every rank has, rank by rank."""
    if not several():
        return [mine]
    box: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(box, mine)
    return box


def gather_or_raise(make: Callable[[], T]) -> list[T]:
    """Return what ``make`` returns on each rank, rank by rank; what it raises on one, every rank raises.

    One rank that failed would leave the others waiting for it.
    """
    if not several():
        return [make()]
    mine: T | None = None
    own: BaseException | None = None
    try:
        mine = make()
    except BaseException as error:
        own = error
    every = gather_objects((mine, own and sendable(own)))
    if own is not None:
        raise own
    if failed := [error for _, error in every if error is not None]:
        raise failed[0]
    return [cast(T, made) for made, _ in every]


def sendable(error: BaseException) -> BaseException:
    """Return the error, or its text where it does not survive the way to another process."""
    try:
        pickle.dumps(error)
        return copy.copy(error)  # made again as the other process would make it
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
