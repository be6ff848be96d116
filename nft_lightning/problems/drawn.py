"""Problems that are drawn by chance, without an end."""

from __future__ import annotations

import random

from nft_lightning.errors import UserError
from nft_lightning.problems.base import is_held_out
from nft_lightning.types import Problem

# A set that a draw meets less often than once in so many tries is as good as empty.
RARE_TRIES = 2_000
MOST_TRIES = 200_000


class DrawnProblems:
    """An endless stream; ``held_out_fraction`` of all texts, chosen by a hash, is kept for evaluation.

    Subclasses give ``make``.
    """

    held_out_fraction: float

    def make(self, rng: random.Random) -> Problem:
        """Return one problem from ``rng``, held out or not."""
        raise NotImplementedError

    @property
    def training(self) -> None:
        """Return None: problems are drawn without an end."""
        return None

    @property
    def problems(self) -> None:
        """Return None, as of ``training``."""
        return None

    def problem(self, index: int, seed: int) -> Problem:
        """Training problem number ``index`` of a seed, drawn by a counter."""
        return self.draw(random.Random(f"train/{seed}/{index}"), held_out=False)

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
            problem = self.make(rng)
            if is_held_out(problem.text, self.held_out_fraction) == held_out:
                return problem
        return None

    def check_fraction(self, field: str, kinds: str, remedy: str) -> None:
        """Raise UserError where training or evaluation would have no problems.

        Args:
            field: the key of ``held_out_fraction``. kinds: which problems there are few of.
            remedy: what gives more of them.
        """
        if not 0 < self.held_out_fraction < 1:
            raise UserError(
                field,
                self.held_out_fraction,
                "leaves training or evaluation without problems",
                "use a number between 0 and 1, such as 0.1",
            )
        for held_out, name in ((False, "training"), (True, "evaluation")):
            if self.drawn(random.Random(name), held_out, RARE_TRIES) is None:
                problem = f"leaves no {name} problems of {kinds}"
                raise UserError(field, self.held_out_fraction, problem, remedy)
