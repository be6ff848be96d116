"""Generated sums and differences: the problems of the embedded default."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from nft_lightning.errors import UserError
from nft_lightning.problems.base import is_held_out
from nft_lightning.types import Problem

# A set that a draw meets less often than once in so many tries is as good as empty.
RARE_TRIES = 2_000
MOST_TRIES = 200_000


@dataclass(frozen=True)
class ArithmeticProblems:
    """Problems such as ``7+12-5`` with ``min_terms`` to ``max_terms`` numbers.

    ``held_out_fraction`` of all problem texts, chosen by a hash, is kept for evaluation.
    """

    min_terms: int = 3
    max_terms: int = 5
    max_number: int = 20
    held_out_fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 2 <= self.min_terms <= self.max_terms:
            raise UserError(
                "problems.min_terms",
                self.min_terms,
                f"does not fit max_terms={self.max_terms}",
                "use 2 <= min_terms <= max_terms",
            )
        if self.max_number < 2:
            raise UserError("problems.max_number", self.max_number, "is too small", "use 2 or more")
        if not 0 < self.held_out_fraction < 1:
            raise UserError(
                "problems.held_out_fraction",
                self.held_out_fraction,
                "leaves training or evaluation without problems",
                "use a number between 0 and 1, such as 0.1",
            )
        for held_out, name in ((False, "training"), (True, "evaluation")):
            if self.drawn(random.Random(name), held_out, RARE_TRIES) is None:
                raise UserError(
                    "problems.held_out_fraction",
                    self.held_out_fraction,
                    f"leaves no {name} problems of {self.min_terms} to {self.max_terms} terms up to "
                    f"{self.max_number}",
                    "use more or larger terms, or a fraction such as 0.1",
                )

    def problem(self, index: int, seed: int) -> Problem:
        """Training problem number ``index`` of a seed, drawn by a counter."""
        return self.draw(random.Random(f"train/{seed}/{index}"), held_out=False)

    @property
    def training(self) -> None:
        """Return None: problems are drawn without an end."""
        return None

    def held_out(self, count: int) -> list[Problem]:
        """At most ``count`` different held-out problems."""
        rng = random.Random("held-out")
        found: dict[str, Problem] = {}
        for _ in range(count * 50):
            if len(found) == count:
                break
            problem = self.draw(rng, held_out=True)
            found.setdefault(problem.id, problem)
        return list(found.values())

    def draw(self, rng: random.Random, *, held_out: bool) -> Problem:
        """Return one problem from ``rng``, from the held-out texts or from the others.

        Raises:
            RuntimeError: none was met in many more tries than the check at the start needed.
        """
        found = self.drawn(rng, held_out, MOST_TRIES)
        if found is None:
            raise RuntimeError(f"no problem was drawn in {MOST_TRIES} tries")
        return found

    def drawn(self, rng: random.Random, held_out: bool, tries: int) -> Problem | None:
        """Return the first problem of the set that is asked for among ``tries``, else None."""
        for _ in range(tries):
            count = rng.randint(self.min_terms, self.max_terms)
            numbers = [rng.randint(1, self.max_number) for _ in range(count)]
            signs = [1] + [rng.choice((1, -1)) for _ in range(count - 1)]
            terms = [s * n for s, n in zip(signs, numbers, strict=True)]
            text = str(terms[0]) + "".join(f"{t:+d}" for t in terms[1:])
            if is_held_out(text, self.held_out_fraction) == held_out:
                return Problem(f"arithmetic:{text}", text, str(sum(terms)), worked_answer(text))
        return None


def worked_answer(text: str) -> str:
    """``7+12-5`` becomes ``7+12=19``, ``19-5=14`` and the boxed total, one operation a line."""
    first, *rest = re.findall(r"[+-]?\d+", text)
    total, lines = int(first), []
    for term in rest:
        lines.append(f"{total}{term}={total + int(term)}")
        total += int(term)
    return "\n".join([*lines, f"\\boxed{{{total}}}"])
