"""Right or wrong by math-verify, behind processes that can be killed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nft_lightning.errors import UserError
from nft_lightning.types import Verdict
from nft_lightning.verifiers.base import RewardRules
from nft_lightning.verifiers.extract import last_boxed
from nft_lightning.verifiers.pool import WorkerPool

PLAIN_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
E_NOTATION = re.compile(r"(-?\d+(?:\.\d+)?)[eE]([+-]?\d+)")


@dataclass(frozen=True)
class MathVerifier:
    r"""The last ``\boxed{}`` against the gold.

    Plain integers are compared at once; everything else goes to math-verify in a worker.

    Attributes:
        workers: processes; timeout_seconds: a verification's deadline.
        rewards: what each outcome counts as.
    """

    workers: int = 2
    timeout_seconds: float = 5.0
    rewards: RewardRules = field(default_factory=RewardRules)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError("verifier.workers", self.workers, "starts nobody", "use 1 or more")
        if self.timeout_seconds <= 0:
            raise UserError("verifier.timeout_seconds", self.timeout_seconds, "ends every job", "use 5")

    @cached_property
    def pool(self) -> WorkerPool:
        """Started with the first answer that is not a plain integer."""
        return WorkerPool(self.workers, self.timeout_seconds)

    def verify(self, completions: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        """See :class:`nft_lightning.verifiers.base.Verifier`."""
        verdicts: list[Verdict | None] = []
        jobs: list[tuple[str, str]] = []
        for text, gold in zip(completions, golds, strict=True):
            answer = last_boxed(text)
            quick = compare_plain(answer, gold)
            verdicts.append(quick)
            if quick is None:
                jobs.append((answer or "", readable_gold(gold)))
        slow = iter(self.pool.run(jobs) if jobs else [])
        done = []
        for text, verdict in zip(completions, verdicts, strict=True):
            if verdict is None:
                judged = next(slow)
                verdict = Verdict(judged.outcome, last_boxed(text), judged.seconds)
            done.append(verdict)
        return done

    def close(self) -> None:
        """End the workers."""
        self.pool.close()


def compare_plain(answer: str | None, gold: str) -> Verdict | None:
    """A verdict where no mathematics is needed, else None."""
    if answer is None or not answer:
        return Verdict("unparsable")
    if PLAIN_INTEGER.fullmatch(answer) and PLAIN_INTEGER.fullmatch(gold):
        return Verdict("correct" if int(answer) == int(gold) else "wrong", answer)
    return None


def readable_gold(gold: str) -> str:
    r"""``4.5e33`` as ``4.5 \times 10^{33}``: math-verify would read the E as a symbol."""
    match = E_NOTATION.fullmatch(gold.strip())
    return f"{match[1]} \\times 10^{{{int(match[2])}}}" if match else gold
