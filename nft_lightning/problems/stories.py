"""Generated word problems of several kinds, each with a worked answer: for small language models."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.problems.drawn import DrawnProblems
from nft_lightning.types import Problem

NAMES = (
    "Ana",
    "Ben",
    "Carla",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Hugo",
    "Iris",
    "Jonas",
    "Lena",
    "Omar",
)
THINGS = (
    "apples",
    "books",
    "cards",
    "coins",
    "eggs",
    "flowers",
    "marbles",
    "pencils",
    "shells",
    "stamps",
)


@dataclass(frozen=True)
class Story:
    """A question, the equations that answer it, and the answer."""

    text: str
    steps: tuple[str, ...]
    answer: int

    @property
    def solution(self) -> str:
        """Return the worked answer: the equations and the boxed result."""
        return f"{', '.join(self.steps)}. The answer is \\boxed{{{self.answer}}}."


def change(rng: random.Random, most: int) -> Story:
    """Someone buys things and pays with more than they cost."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    count, price = rng.randint(2, most), rng.randint(2, most)
    cost = count * price
    paid = cost + rng.randint(1, 2 * most)
    text = (
        f"{name} buys {count} {thing} for {price} dollars each and pays with {paid} dollars. "
        f"How many dollars does {name} get back?"
    )
    return Story(text, (f"{count} * {price} = {cost}", f"{paid} - {cost} = {paid - cost}"), paid - cost)


def together(rng: random.Random, most: int) -> Story:
    """One has some more than another; how many are there in all?"""
    first, second = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    few, more = rng.randint(2, 3 * most), rng.randint(2, 2 * most)
    many = few + more
    text = (
        f"{first} has {few} {thing}. {second} has {more} more {thing} than {first}. "
        f"How many {thing} do they have together?"
    )
    return Story(text, (f"{few} + {more} = {many}", f"{few} + {many} = {few + many}"), few + many)


def shared(rng: random.Random, most: int) -> Story:
    """Full boxes are shared equally among friends."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    friends, each = rng.randint(2, most), rng.randint(2, most)
    total = friends * each
    boxes = rng.choice([n for n in range(2, total + 1) if total % n == 0])
    text = (
        f"{name} has {boxes} boxes with {total // boxes} {thing} in each and shares all of them "
        f"equally among {friends} friends. How many {thing} does each friend get?"
    )
    steps = (f"{boxes} * {total // boxes} = {total}", f"{total} / {friends} = {each}")
    return Story(text, steps, each)


def bus(rng: random.Random, most: int) -> Story:
    """People get off a bus, others get on."""
    start = rng.randint(most, 4 * most)
    left, joined = rng.randint(2, start - 1), rng.randint(2, 2 * most)
    rest = start - left
    text = (
        f"There are {start} people on a bus. At the next stop {left} get off and {joined} get on. "
        "How many people are on the bus now?"
    )
    return Story(
        text, (f"{start} - {left} = {rest}", f"{rest} + {joined} = {rest + joined}"), rest + joined
    )


def fence(rng: random.Random, most: int) -> Story:
    """A fence goes around a garden."""
    length, width = rng.randint(2, 3 * most), rng.randint(2, 3 * most)
    half = length + width
    text = (
        f"A garden is {length} meters long and {width} meters wide. "
        "How many meters of fence go around it?"
    )
    return Story(text, (f"{length} + {width} = {half}", f"2 * {half} = {2 * half}"), 2 * half)


def ages(rng: random.Random, most: int) -> Story:
    """One is several times as old as another, and both grow older."""
    young, old = rng.sample(NAMES, 2)
    age, times, years = rng.randint(2, most), rng.randint(2, 5), rng.randint(2, most)
    now = age * times
    text = (
        f"{young} is {age} years old. {old} is {times} times as old as {young}. "
        f"How old will {old} be in {years} years?"
    )
    return Story(text, (f"{age} * {times} = {now}", f"{now} + {years} = {now + years}"), now + years)


KINDS: dict[str, Callable[[random.Random, int], Story]] = {
    "change": change,
    "together": together,
    "shared": shared,
    "bus": bus,
    "fence": fence,
    "ages": ages,
}


@dataclass(frozen=True)
class StoryProblems(DrawnProblems):
    """Word problems of two operations, of the kinds of :data:`KINDS` by chance.

    Attributes:
        max_number: how large prices, counts and ages get; sums and products are larger.
        held_out_fraction: the share of all texts, chosen by a hash, that is kept for evaluation.
    """

    max_number: int = bounded(12, least=3)
    held_out_fraction: float = 0.1

    def __post_init__(self) -> None:
        check_bounds(self, "problems.source")
        kinds = f"numbers up to {self.max_number}"
        remedy = "use a larger max_number, or a fraction such as 0.1"
        self.check_fraction("problems.source.held_out_fraction", kinds, remedy)

    def make(self, rng: random.Random) -> Problem:
        """Return one problem from ``rng``, held out or not."""
        kind = rng.choice(list(KINDS))
        story = KINDS[kind](rng, self.max_number)
        return Problem(
            f"story:{story.text}", story.text, str(story.answer), story.solution, {"kind": kind}
        )
