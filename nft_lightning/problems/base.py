"""Where problems come from."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from nft_lightning.errors import UserError
from nft_lightning.types import Problem


class ProblemSource(Protocol):
    """An indexable stream without an end: the state of a source is only the index."""

    def problem(self, index: int, seed: int) -> Problem:
        """Training problem number ``index`` of the run with this seed; a pure function."""
        ...

    @property
    def training(self) -> Sequence[Problem] | None:
        """Every training problem, to be looked at before a run starts; None where there is no end."""
        ...

    @property
    def problems(self) -> Sequence[Problem] | None:
        """Every problem, in the source's own order; None where there is no end."""
        ...

    def held_out(self, count: int) -> list[Problem]:
        """At most ``count`` problems that training never sees, the same for every seed."""
        ...


def is_held_out(text: str, fraction: float) -> bool:
    """True for the given fraction of all texts, decided by a hash of only the text."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def check_ids(problems: Iterable[Problem]) -> None:
    """Raise UserError where two problems of one set have one id: results would count them as one."""
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise UserError("id", problem.id, "appears twice in one set", "give every problem its own")
        seen.add(problem.id)


def shuffled_index(index: int, size: int, seed: int) -> int:
    """Return the position drawn at ``index`` when a list of ``size`` is reshuffled every pass."""
    passes, offset = divmod(index, size)
    return shuffled(size, f"{seed}/{passes}")[offset]


@lru_cache(maxsize=4)
def shuffled(size: int, seed: str) -> tuple[int, ...]:
    """Return the order of one pass, made once and not for every problem drawn from it."""
    order = list(range(size))
    random.Random(seed).shuffle(order)
    return tuple(order)
