"""The problems of one rollout, in the order of the stream, without those that cannot be asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from nft_lightning.distributed.ranks import first
from nft_lightning.engines.base import Prompt
from nft_lightning.errors import RunStoppedError, UserError
from nft_lightning.problems.room import Room, unwritable
from nft_lightning.rollouts.refill import Question
from nft_lightning.types import Problem

MOST_IN_A_ROW = 100_000
log = logging.getLogger(__name__)


class Drawn:
    """Questions by number, 0 and up, each looked for behind the one before.

    A problem whose prompt is too long, or cannot be made, is passed over, and the next takes its
    place. That depends on stream, prompt and context only, so it is the same for every rank,
    algorithm and resume.

    Args:
        draw: the problem at a position of the stream.
        encode: makes its prompt. seeds: those of its completions, by position.
        room: what an answer needs.
        cursor: the first position.

    Attributes:
        cursor: the position behind the last that was looked at.
        refused: how many problems were passed over; why: the first one's reason.
    """

    def __init__(
        self,
        draw: Callable[[int], Problem],
        encode: Callable[[str], Prompt],
        seeds: Callable[[int], list[int]],
        room: Room,
        cursor: int,
    ) -> None:
        self.draw, self.encode, self.seeds, self.room = draw, encode, seeds, room
        self.cursor, self.refused = cursor, 0
        self.why: UserError | None = None
        self.questions: list[Question] = []

    def __getitem__(self, number: int) -> Question:
        """Return question ``number``; RunStoppedError where no problem of the stream can be asked."""
        while len(self.questions) <= number:
            self.questions.append(self.next())
        return self.questions[number]

    def next(self) -> Question:
        """Return the question at the next position that has one."""
        for _ in range(MOST_IN_A_ROW):
            position = self.cursor
            self.cursor += 1
            problem = self.draw(position)
            try:
                prompt = self.prompt(problem)
            except UserError as error:
                self.refused += 1
                self.why = self.why or error
                continue
            return Question(problem, prompt, self.seeds(position))
        raise RunStoppedError(f"none of {MOST_IN_A_ROW:,} problems in a row can be asked; {self.why}")

    def prompt(self, problem: Problem) -> Prompt:
        """Return a problem's prompt; UserError where it cannot be asked."""
        prompt = self.encode(problem.text)
        error = self.room.refusal(problem, prompt) or unwritable(problem)
        if error is not None:
            raise error
        return prompt

    @property
    def refused_fraction(self) -> float:
        """Return the share of the problems that were passed over, of all that were looked at."""
        return self.refused / max(1, self.refused + len(self.questions))


def askable(problems: Sequence[Problem], encode: Callable[[str], Prompt], room: Room) -> list[Problem]:
    """Return those of ``problems`` whose prompts can be made and leave room for the answer."""
    drawn = Drawn(problems.__getitem__, encode, lambda _: [], room, 0)
    found = []
    for problem in problems:
        with suppress(UserError):
            drawn.prompt(problem)
            found.append(problem)
    return found


class Namer:
    """Names the first problem that a run passes over in the log, once."""

    def __init__(self) -> None:
        self.done = False

    def tell(self, drawn: Drawn) -> None:
        """Log the first reason of ``drawn``, if it has one and none was logged before."""
        if self.done or drawn.why is None:
            return
        self.done = True
        if first():
            log.warning(
                "a problem is passed over, as others like it will be "
                "(rollout/overlong_prompt_fraction): %s",
                drawn.why,
            )
