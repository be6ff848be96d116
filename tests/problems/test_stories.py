"""Word problems that are made: right answers, worked solutions, and a held-out part that is apart."""

from __future__ import annotations

import random
import re
from fractions import Fraction

import pytest

from nft_lightning.errors import UserError
from nft_lightning.problems.stories import KINDS, StoryProblems
from nft_lightning.verifiers.extract import last_boxed

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: Fraction(a, b),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [3, 12, 40])
def test_the_worked_answer_is_right(kind, most):
    rng = random.Random(most)
    for _ in range(200):
        story = KINDS[kind](rng, most)
        steps = [EQUATION.fullmatch(step).groups() for step in story.steps]
        for left, sign, right, result in steps:
            assert OPERATIONS[sign](int(left), int(right)) == int(result)
        first, last = steps
        assert first[3] in (last[0], last[2])
        assert last_boxed(story.solution) == last[3] == str(story.answer)
        assert story.answer >= 0
        # Every number of the first equation occurs in the question, or is how often a side counts.
        assert {first[0], first[2]} <= {*re.findall(r"\d+", story.text), "2"}


def test_seeds_draw_their_own_and_all_hold_out_the_same():
    source = StoryProblems()
    first, second = ({source.problem(i, seed).text for i in range(300)} for seed in (0, 1))
    assert len(first & second) < 15
    held_out = source.held_out(200)
    assert len({p.id for p in held_out}) == 200
    assert not {p.text for p in held_out} & (first | second)
    assert {p.extra["kind"] for p in held_out} == set(KINDS)
    assert source.held_out(50) == held_out[:50]
    assert source.problem(7, 3) == source.problem(7, 3)


def test_bad_input_is_one_sentence():
    with pytest.raises(UserError, match=r"problems\.source\.max_number=2 is below 3"):
        StoryProblems(max_number=2)
    with pytest.raises(UserError, match=r"problems\.source\.held_out_fraction=1\.0 leaves training"):
        StoryProblems(held_out_fraction=1.0)
