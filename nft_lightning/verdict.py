"""What a verifier says about one completion. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OUTCOMES = ("correct", "wrong", "unparsable", "timeout", "bad_gold", "error")


@dataclass(frozen=True)
class Verdict:
    """What the verifier says: ``outcome`` is one of :data:`OUTCOMES`.

    Attributes:
        extracted: the final answer that was found, None where there is none.
        seconds: wall time the verification took.
        score: a reward that replaces what the outcome is worth; NaN counts as nothing.
        parts: the terms of a weighted sum by name, logged as metrics.
    """

    outcome: str
    extracted: str | None = None
    seconds: float = 0.0
    score: float | None = None
    parts: Mapping[str, float] | None = None

    @property
    def correct(self) -> bool:
        """True for the outcome ``correct`` only."""
        return self.outcome == "correct"
