"""A weighted sum of several verifiers' rewards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nft_lightning.errors import UserError
from nft_lightning.types import Answer, Problem
from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.base import Verifier
from nft_lightning.verifiers.rewards import RewardRules


@dataclass(frozen=True, kw_only=True)
class WeightedVerifier(Verifier):
    """The reward is the sum of weight x reward over the parts; each part is logged.

    Outcome and answer are the first part's: it decides what is right. Where a part's verdict counts
    as nothing (its reward is null), the sum does too, and the group is left out.

    Attributes:
        parts: by name, each ``{weight: 1.0, verifier: {_target_: ...}}``.
    """

    parts: dict[str, Any]

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("verifier.parts", {}, "holds no verifier", "give one or more")
        for name, part in self.parts.items():
            if not isinstance(part, Mapping) or set(part) != {"weight", "verifier"}:
                raise UserError(f"verifier.parts.{name}", part, "is no part", "give weight and verifier")
            weight = part["weight"]
            if (
                isinstance(weight, bool)
                or not isinstance(weight, int | float)
                or not math.isfinite(weight)
            ):
                raise UserError(f"verifier.parts.{name}.weight", weight, "is no weight", "use a number")
            if not isinstance(part["verifier"], Verifier):
                raise UserError(
                    f"verifier.parts.{name}.verifier",
                    part["verifier"],
                    "is no verifier",
                    "give a _target_",
                )

    def is_continuous(self) -> bool:
        """Return that a sum may be any number."""
        return True

    def reward_range(self) -> tuple[float, float] | None:
        """Return the range of the sum; None where that of a part is not known."""
        least, largest = 0.0, 0.0
        for part in self.parts.values():
            own = part["verifier"].reward_range()
            if own is None:
                return None
            ends = (part["weight"] * own[0], part["weight"] * own[1])
            least += min(ends)
            largest += max(ends)
        return least, largest

    @property
    def verifiers(self) -> dict[str, Verifier]:
        """Return the parts' verifiers by name."""
        return {name: part["verifier"] for name, part in self.parts.items()}

    @property
    def rewards(self) -> RewardRules:  # type: ignore[override]
        """Return the first part's."""
        return next(iter(self.verifiers.values())).rewards

    def check_problems(self, problems: Sequence[Problem]) -> None:
        """Raise UserError for problems that one of the parts cannot score."""
        for verifier in self.verifiers.values():
            verifier.check_problems(problems)

    def score(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return one verdict for each answer, its score the sum over the parts."""
        columns = [verifier.score(answers) for verifier in self.verifiers.values()]
        return [self.combine(row) for row in zip(*columns, strict=True)]

    def verify(
        self, completions: Sequence[str], golds: Sequence[str], truncated: Sequence[bool] | None = None
    ) -> list[Verdict]:
        """See :class:`nft_lightning.verifiers.base.Verifier`."""
        parts = self.verifiers.values()
        columns = [verifier.verify(completions, golds, truncated) for verifier in parts]
        return [self.combine(row) for row in zip(*columns, strict=True)]

    def combine(self, verdicts: Sequence[Verdict]) -> Verdict:
        """Return one verdict from the parts'."""
        worth = {
            name: verifier.rewards.reward_for(verdict)
            for (name, verifier), verdict in zip(self.verifiers.items(), verdicts, strict=True)
        }
        score = sum(self.parts[name]["weight"] * value for name, value in worth.items())
        first = verdicts[0]
        return Verdict(first.outcome, first.extracted, sum(v.seconds for v in verdicts), score, worth)

    def close(self) -> None:
        """End what the parts started."""
        for verifier in self.verifiers.values():
            verifier.close()


def has_box(completion: str, gold: str) -> bool:
    r"""Return whether the completion shows a complete ``\boxed{}``, right or wrong: a format reward."""
    from nft_lightning.verifiers.extract import last_boxed

    return last_boxed(completion) is not None
