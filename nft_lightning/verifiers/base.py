"""The verifier's protocol, and what a verdict counts as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nft_lightning.errors import UserError
from nft_lightning.verdict import OUTCOMES, Verdict

if TYPE_CHECKING:
    # Worker processes import this module, and have no need of torch.
    from nft_lightning.types import Answer, Problem


@dataclass(frozen=True)
class RewardRules:
    """What each outcome is worth; None leaves the completion's whole group out.

    A gold that cannot be read says nothing about the answers, so its group is left out.
    """

    correct: float | None = 1.0
    wrong: float | None = 0.0
    unparsable: float | None = 0.0
    timeout: float | None = 0.0
    bad_gold: float | None = None
    error: float | None = None

    def reward(self, outcome: str) -> float | None:
        """Return the reward of one outcome."""
        if outcome not in OUTCOMES:
            raise UserError("outcome", outcome, "is not a verdict", f"use one of {', '.join(OUTCOMES)}")
        value: float | None = getattr(self, outcome)
        return value

    def range(self) -> tuple[float, float] | None:
        """Return the least and the largest reward of an outcome; None where all are null."""
        worth = [self.reward(outcome) for outcome in OUTCOMES]
        known = [value for value in worth if value is not None]
        return (min(known), max(known)) if known else None

    def reward_for(self, verdict: Verdict) -> float:
        """Return the verdict's own score, else its outcome's reward; NaN counts as nothing."""
        if verdict.score is not None:
            return verdict.score
        value = self.reward(verdict.outcome)
        return float("nan") if value is None else value


class Verifier:
    """Scores completions.

    One that reads texts only has ``verify``; one that needs the problem's other columns, the prompt or
    token ids overrides ``score``, and ``check_problems`` where not every problem has them. Its verdicts
    may carry scores that are not 0 or 1: then ``is_continuous`` says so, and an algorithm that needs
    binary rewards refuses it. ``reward_range`` says where such scores lie, if that is known.

    Attributes:
        rewards: what each outcome is worth.
    """

    rewards: RewardRules

    def is_continuous(self) -> bool:
        """Return whether rewards may lie between right and wrong."""
        return False

    def reward_range(self) -> tuple[float, float] | None:
        """Return the least and the largest reward; None where they are not known."""
        return None if self.is_continuous() else self.rewards.range()

    def check_problems(self, problems: Sequence[Problem]) -> None:
        """Raise UserError for problems that cannot be scored; called before a run starts."""
        for problem in problems:
            if not problem.answer:
                raise UserError(
                    "verifier",
                    type(self).__name__,
                    f"cannot score {problem.id}, which has no answer of its own",
                    "use verifier=reasoning_gym, or other problems",
                )

    def score(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return one verdict for each answer, in the same order."""
        return self.verify(
            [a.completion.text for a in answers],
            [a.problem.answer for a in answers],
            [a.completion.truncated for a in answers],
        )

    def verify(
        self,
        completions: Sequence[str],
        golds: Sequence[str],
        truncated: Sequence[bool] | None = None,
    ) -> list[Verdict]:
        """Return one verdict for each completion, in the same order.

        ``truncated`` says which completions met the token limit; None means that none did.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End whatever was started."""


def check_choice(field: str, value: object, choices: Sequence[str]) -> None:
    """Raise UserError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise UserError(field, value, "is not known", f"use one of {', '.join(choices)}")
