"""Verification beside generation: a dropped group is replaced while others are still being written."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nft_lightning.engines.base import Prompt
from nft_lightning.types import Completion, Group, Problem, Sampling

Score = Callable[[list[Problem], list[Prompt], list[list[Completion]]], list[Group]]


@dataclass(frozen=True)
class Question:
    """What an engine is asked at one position of the stream of problems."""

    problem: Problem
    prompt: Prompt
    seeds: list[int]


class Rounds:
    """Which positions rounds of generation ask for, whatever the order in which verdicts come.

    Round r + 1 replaces the groups that round r dropped, at the positions behind round r's: those
    are known as soon as the size of round r is, which is when round r - 1 is verified.

    Args:
        start, count: the first round's positions. limit: rounds in all.
    """

    def __init__(self, start: int, count: int, limit: int) -> None:
        self.limit = limit
        self.starts = [start]
        self.sizes: list[int | None] = [count]  # None until known
        self.issued, self.verified, self.dropped = [0], [0], [0]
        self.round_of: dict[int, int] = {}

    def first(self) -> list[int]:
        """Return the first round's positions."""
        return self.issue(0, self.sizes[0] or 0)

    def verdict(self, position: int, kept: bool) -> list[int]:
        """Return the positions to ask for now that this one's group was kept or dropped."""
        r = self.round_of[position]
        self.verified[r] += 1
        self.dropped[r] += not kept
        found: list[int] = []
        for i in range(self.limit - 1):
            size = self.sizes[i]
            if size is None:
                break
            if i + 1 == len(self.starts):
                self.starts.append(self.starts[i] + size)
                self.sizes.append(None)
                for tally in (self.issued, self.verified, self.dropped):
                    tally.append(0)
            if self.verified[i] == size:
                self.sizes[i + 1] = self.dropped[i]
            found += self.issue(i + 1, self.dropped[i])
        return found

    def issue(self, r: int, upto: int) -> list[int]:
        """Round ``r``'s next positions, until it has asked for ``upto``."""
        start = self.starts[r]
        found = list(range(start + self.issued[r], start + upto))
        self.issued[r] = upto
        self.round_of.update(dict.fromkeys(found, r))
        return found


class Refill:
    """One rollout from an engine that reports completions as they come.

    Args:
        rounds: which positions to ask for. ask: the question at a position.
        score: verdicts for some groups. keep: whether a group stays.
    """

    def __init__(
        self,
        rounds: Rounds,
        ask: Callable[[int], Question],
        score: Score,
        keep: Callable[[Group], bool],
    ) -> None:
        self.rounds, self.ask, self.score, self.keep = rounds, ask, score, keep
        self.positions = rounds.first()
        self.questions = {i: ask(i) for i in self.positions}
        self.groups: dict[int, Group] = {}
        self.answered: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.verify_seconds = 0.0

    def run(self, engine: Any, sampling: Sampling) -> list[Group]:
        """Return all groups, dropped ones too, in the order of their positions."""
        first = list(self.questions.values())
        verifying = threading.Thread(target=self.verify_all, daemon=True)
        verifying.start()
        try:
            engine.generate_streaming(
                [q.prompt for q in first],
                sampling,
                [q.seeds for q in first],
                lambda *answer: self.answered.put(answer),
            )
        finally:
            self.answered.put(None)
            verifying.join()
        return [self.groups[i] for i in sorted(self.groups)]

    def verify_all(self) -> None:
        """Score what was answered, all that waits at a time, until None comes."""
        while (batch := self.waiting()) is not None:
            try:
                more = self.verify([(i, completions) for i, completions, _, _ in batch])
            except Exception as error:
                batch[0][3](error)
                return
            for _, _, go_on, _ in batch[1:]:
                go_on([])
            batch[0][2](more)

    def waiting(self) -> list[Any] | None:
        """Return all answers that wait, one at least; None at the end."""
        found = [self.answered.get()]
        while not self.answered.empty():
            found.append(self.answered.get())
        return None if None in found else found

    def verify(
        self, answers: Sequence[tuple[int, list[Completion]]]
    ) -> list[tuple[Prompt, Sequence[int]]]:
        """Return the prompts and seeds that replace what these answers' verdicts drop."""
        places = [self.positions[i] for i, _ in answers]
        asked = [self.questions[p] for p in places]
        started = time.perf_counter()
        scored = self.score(
            [q.problem for q in asked], [q.prompt for q in asked], [c for _, c in answers]
        )
        self.verify_seconds += time.perf_counter() - started
        more = []
        for place, group in zip(places, scored, strict=True):
            self.groups[place] = group
            more += self.rounds.verdict(place, self.keep(group))
        new = {i: self.ask(i) for i in more}
        self.positions += more
        self.questions |= new
        return [(q.prompt, q.seeds) for q in new.values()]
