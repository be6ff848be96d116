"""Right or wrong by reasoning-gym's own scorers, behind processes that can be killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError
from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.base import Verifier
from nft_lightning.verifiers.extract import BOX_RULES, WHOLE, check_rules, find_answers
from nft_lightning.verifiers.rewards import RewardRules
from nft_lightning.verifiers.sandbox.pool import Job, WorkerPool

if TYPE_CHECKING:
    from nft_lightning.types import Answer, Problem

SCORER = "nft_lightning.verifiers.gym.score"
KEYS = {"task", "options", "entry"}


@dataclass(frozen=True, kw_only=True)
class ReasoningGymVerifier(Verifier):
    r"""A completion's final answer, scored by the task that wrote the problem.

    Many tasks accept several answers, and many give part of the score to an answer that is nearly
    right: ``score_answer`` of the library decides. A score of 1 or more is correct, any other wrong.

    Attributes:
        workers, timeout_seconds, memory_limit_mb, which, truncated: as for
            :class:`nft_lightning.verifiers.math.verifier.MathVerifier`.
        extract: ``boxed``, ``official`` or ``whole``, as for
            :class:`nft_lightning.verifiers.simple.ExactVerifier`.
        continuous: the score is the reward; algorithms that need binary ones refuse.
        rewards: what each outcome counts as; with ``continuous``, what has no score.
    """

    workers: int = bounded(2, least=1)
    timeout_seconds: float = bounded(3.0, above=0, finite=True, use="3")
    memory_limit_mb: int = bounded(1024, least=256)
    extract: str = "boxed"
    which: str = "last"
    truncated: str = "score"
    continuous: bool = False
    rewards: RewardRules = field(default_factory=RewardRules)

    def __post_init__(self) -> None:
        check_bounds(self, "verifier")
        check_rules(self.extract, self.which, self.truncated, BOX_RULES + WHOLE)

    @cached_property
    def pool(self) -> WorkerPool:
        """Its processes start with the first answer."""
        return WorkerPool(SCORER, self.workers, self.timeout_seconds, self.memory_limit_mb)

    def is_continuous(self) -> bool:
        """Return whether the library's scores are the rewards."""
        return self.continuous

    def reward_range(self) -> tuple[float, float] | None:
        """Return the range of the outcomes' rewards; with ``continuous`` [0, 1] is part of it."""
        if not self.continuous:
            return super().reward_range()
        least, largest = self.rewards.range() or (0.0, 1.0)
        return min(least, 0.0), max(largest, 1.0)

    def check_problems(self, problems: Sequence[Problem]) -> None:
        """Raise UserError unless reasoning-gym wrote all the problems."""
        for problem in problems:
            if set(problem.extra) != KEYS:
                raise UserError(
                    "verifier",
                    type(self).__name__,
                    f"cannot score {problem.id}, which holds no entry of reasoning-gym",
                    "use problems=reasoning_gym, or another verifier such as math_verify",
                )

    def score(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return one verdict for each answer; equal answers to one problem are scored once.

        Raises:
            UserError: a problem is not reasoning-gym's.
        """
        self.check_problems([a.problem for a in answers])
        texts, cut = [a.completion.text for a in answers], [a.completion.truncated for a in answers]
        found = find_answers(texts, cut, self.extract, self.which, self.truncated)
        jobs: dict[Job, list[int]] = {}
        verdicts = [Verdict("unparsable", text) for text in found]
        for i, (answer, text) in enumerate(zip(answers, found, strict=True)):
            if text:
                jobs.setdefault(job(answer.problem, text), []).append(i)
        for scored, indices in zip(self.pool.run(list(jobs)), jobs.values(), strict=True):
            score = scored.score if self.continuous else None
            for i in indices:
                verdicts[i] = replace(scored, extracted=found[i], score=score)
        return verdicts

    def verify(
        self, completions: Sequence[str], golds: Sequence[str], truncated: Sequence[bool] | None = None
    ) -> list[Verdict]:
        """Raise UserError: a text and a gold do not say what was asked."""
        raise UserError(
            "verifier",
            type(self).__name__,
            "scores answers to problems of reasoning-gym, not pairs of texts",
            "call score, or use another verifier such as math_verify",
        )

    def close(self) -> None:
        """End the workers."""
        self.pool.close()


def job(problem: Problem, answer: str) -> Job:
    """Return what a worker needs to score one answer."""
    asked = problem.extra
    return repr((asked["task"], asked["options"])), answer, repr(asked["entry"])
