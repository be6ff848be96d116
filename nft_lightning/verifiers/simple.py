"""Verifiers without computer algebra: the same string, or the same number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.base import Verifier
from nft_lightning.verifiers.extract import BOX_RULES, WHOLE, check_rules, find_answers, gold_answer
from nft_lightning.verifiers.math.number import number_said
from nft_lightning.verifiers.rewards import RewardRules


@dataclass(frozen=True, kw_only=True)
class ExactVerifier(Verifier):
    r"""Right where the answer is the gold, character by character, spaces around them aside.

    With ``extract=official`` this is the reward of the official NFT code (``strict_box_verify``).

    Attributes:
        extract: ``boxed``, ``official`` (see
            :class:`nft_lightning.verifiers.math.verifier.MathVerifier`), or ``whole``: the whole
            completion is the answer.
        which, truncated, rewards: as for :class:`nft_lightning.verifiers.math.verifier.MathVerifier`.
        ignore_case: ``Yes`` is ``yes``.
    """

    extract: str = "boxed"
    which: str = "last"
    truncated: str = "score"
    ignore_case: bool = False
    rewards: RewardRules = field(default_factory=RewardRules)

    def __post_init__(self) -> None:
        check_rules(self.extract, self.which, self.truncated, BOX_RULES + WHOLE)

    def verify(
        self, completions: Sequence[str], golds: Sequence[str], truncated: Sequence[bool] | None = None
    ) -> list[Verdict]:
        """See :class:`nft_lightning.verifiers.base.Verifier`."""
        return judge_answers(self, completions, golds, truncated, self.outcome)

    def outcome(self, answer: str, gold: str) -> str:
        """Return the outcome of an answer that is not empty."""
        gold = gold.strip()
        if not gold:
            return "bad_gold"
        if self.ignore_case:
            answer, gold = answer.casefold(), gold.casefold()
        return "correct" if answer == gold else "wrong"


@dataclass(frozen=True, kw_only=True)
class NumericVerifier(Verifier):
    r"""Right where answer and gold are numbers that differ by no more than a tolerance.

    Numbers are integers, decimals, fractions and mixed numbers, powers of ten in any way of writing,
    and percent. Thousands separators, units, ``x =`` and LaTeX's short forms are fine; a relation,
    a list or anything that is not read whole is not.

    Attributes:
        relative_tolerance: of the gold; absolute_tolerance: the larger of the two counts.
        extract, which, truncated, rewards: as for :class:`ExactVerifier`.
    """

    relative_tolerance: float = bounded(1e-6, least=0, finite=True, use="1e-6")
    absolute_tolerance: float = bounded(0.0, least=0, finite=True, use="0")
    extract: str = "boxed"
    which: str = "last"
    truncated: str = "score"
    rewards: RewardRules = field(default_factory=RewardRules)

    def __post_init__(self) -> None:
        check_rules(self.extract, self.which, self.truncated, BOX_RULES + WHOLE)
        check_bounds(self, "verifier")

    def verify(
        self, completions: Sequence[str], golds: Sequence[str], truncated: Sequence[bool] | None = None
    ) -> list[Verdict]:
        """See :class:`nft_lightning.verifiers.base.Verifier`."""
        return judge_answers(self, completions, golds, truncated, self.outcome)

    def outcome(self, answer: str, gold: str) -> str:
        """Return the outcome of an answer that is not empty."""
        expected = number_said(gold_answer(gold))
        if expected is None:
            return "bad_gold"
        given = number_said(answer)
        if given is None:
            return "unparsable"
        allowed = max(
            Fraction(self.absolute_tolerance), Fraction(self.relative_tolerance) * abs(expected)
        )
        return "correct" if abs(given - expected) <= allowed else "wrong"


def judge_answers(
    verifier: ExactVerifier | NumericVerifier,
    completions: Sequence[str],
    golds: Sequence[str],
    truncated: Sequence[bool] | None,
    outcome: Callable[[str, str], str],
) -> list[Verdict]:
    """Return one verdict for each completion: no answer is unparsable, the rest is up to ``outcome``.

    What ``outcome`` raises is an ``error`` of that completion, whatever a model wrote.
    """
    rule = verifier.extract
    answers = find_answers(completions, truncated, rule, verifier.which, verifier.truncated)
    verdicts = []
    for answer, gold in zip(answers, golds, strict=True):
        if not answer:
            verdicts.append(Verdict("unparsable", answer))
            continue
        try:
            verdicts.append(Verdict(outcome(answer, gold), answer))
        except Exception:
            verdicts.append(Verdict("error", answer))
    return verdicts
