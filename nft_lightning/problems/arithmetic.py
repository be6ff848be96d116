"""Generated sums and differences: the problems of the embedded default."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError
from nft_lightning.problems.drawn import DrawnProblems
from nft_lightning.types import Problem


@dataclass(frozen=True)
class ArithmeticProblems(DrawnProblems):
    """Problems such as ``7+12-5`` with ``min_terms`` to ``max_terms`` numbers.

    ``held_out_fraction`` of all problem texts, chosen by a hash, is kept for evaluation.
    """

    min_terms: int = 3
    max_terms: int = 5
    max_number: int = bounded(20, least=2)
    held_out_fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 2 <= self.min_terms <= self.max_terms:
            raise UserError(
                "problems.source.min_terms",
                self.min_terms,
                f"does not fit max_terms={self.max_terms}",
                "use 2 <= min_terms <= max_terms",
            )
        check_bounds(self, "problems.source")
        self.check_fraction(
            "problems.source.held_out_fraction",
            f"{self.min_terms} to {self.max_terms} terms up to {self.max_number}",
            "use more or larger terms, or a fraction such as 0.1",
        )

    def make(self, rng: random.Random) -> Problem:
        """Return one problem from ``rng``, held out or not."""
        count = rng.randint(self.min_terms, self.max_terms)
        numbers = [rng.randint(1, self.max_number) for _ in range(count)]
        signs = [1] + [rng.choice((1, -1)) for _ in range(count - 1)]
        terms = [s * n for s, n in zip(signs, numbers, strict=True)]
        text = str(terms[0]) + "".join(f"{t:+d}" for t in terms[1:])
        return Problem(f"arithmetic:{text}", text, str(sum(terms)), worked_answer(text))


def worked_answer(text: str) -> str:
    """``7+12-5`` becomes ``7+12=19``, ``19-5=14`` and the boxed total, one operation a line."""
    first, *rest = re.findall(r"[+-]?\d+", text)
    total, lines = int(first), []
    for term in rest:
        lines.append(f"{total}{term}={total + int(term)}")
        total += int(term)
    return "\n".join([*lines, f"\\boxed{{{total}}}"])
