"""The reward of a verdict."""

from __future__ import annotations

from dataclasses import dataclass

from nft_lightning.errors import UserError
from nft_lightning.verdict import OUTCOMES, Verdict


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
