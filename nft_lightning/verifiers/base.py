"""Who judges completions, and what a verdict counts as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nft_lightning.errors import UserError
from nft_lightning.types import OUTCOMES, Verdict


class Verifier(Protocol):
    """Judges texts against golds."""

    def verify(self, completions: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        """One verdict for each completion, in the same order."""
        ...

    def close(self) -> None:
        """End whatever was started."""
        ...


@dataclass(frozen=True)
class RewardRules:
    """What each outcome is worth; None leaves the completion's whole group out.

    A gold that can not be read says nothing about the answers, so its group is left out.
    """

    correct: float | None = 1.0
    wrong: float | None = 0.0
    unparsable: float | None = 0.0
    timeout: float | None = 0.0
    bad_gold: float | None = None
    error: float | None = None

    def reward(self, outcome: str) -> float | None:
        """The reward of one outcome."""
        if outcome not in OUTCOMES:
            raise UserError("outcome", outcome, "is not a verdict", f"use one of {', '.join(OUTCOMES)}")
        value: float | None = getattr(self, outcome)
        return value
