"""Right or wrong by math-verify, behind processes that can be killed."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.base import Verifier
from nft_lightning.verifiers.extract import (
    SEARCH_RULES,
    balanced,
    bare,
    check_rules,
    find_answers,
    gold_answer,
)
from nft_lightning.verifiers.math.fast import compare_plain
from nft_lightning.verifiers.math.normalise.searched import with_powers_marked
from nft_lightning.verifiers.rewards import RewardRules
from nft_lightning.verifiers.sandbox.pool import Job, WorkerPool

SCORER = "nft_lightning.verifiers.math.score"
HAS_E = re.compile(r"\d\.?[eE][-+]?\d")


@dataclass(frozen=True)
class MathVerifier(Verifier):
    r"""A completion's final answer against the gold, read by our rules and compared by math-verify.

    Plain numbers are compared at once; everything else goes to a worker.

    Attributes:
        workers: processes of this rank; timeout_seconds: a verification's deadline.
        memory_limit_mb: address space of a worker, in MiB.
        extract: ``boxed`` (the last ``\boxed{}``), ``official`` (the same within the last 100
            characters), or math-verify's own search over the whole text for ``latex``, a plain
            ``expression`` or ``any`` of both.
        which: ``last`` or ``first`` of several.
        gold: golds are an ``answer``, or a ``text`` that math-verify searches for one.
        truncated: ``score`` completions that met the token limit like others, or call them
            ``unparsable``.
        max_answer_characters: longer answers are ``unparsable``, unless the gold is as long.
        rewards: what each outcome counts as.
    """

    workers: int = bounded(2, least=1)
    timeout_seconds: float = bounded(3.0, above=0, finite=True, use="3")
    memory_limit_mb: int = bounded(1024, least=256)
    extract: str = "boxed"
    which: str = "last"
    gold: str = bounded("answer", choices=("answer", "text"))
    truncated: str = "score"
    max_answer_characters: int = bounded(10_000, least=1, use="10000")
    rewards: RewardRules = field(default_factory=RewardRules)

    def __post_init__(self) -> None:
        check_bounds(self, "verifier")
        check_rules(self.extract, self.which, self.truncated)

    @cached_property
    def pool(self) -> WorkerPool:
        """Its processes start with the first answer that is not plain."""
        return WorkerPool(SCORER, self.workers, self.timeout_seconds, self.memory_limit_mb)

    def verify(
        self, completions: Sequence[str], golds: Sequence[str], truncated: Sequence[bool] | None = None
    ) -> list[Verdict]:
        """See :class:`nft_lightning.verifiers.base.Verifier`."""
        if self.extract in SEARCH_RULES:
            cut = truncated if truncated is not None and self.truncated == "unparsable" else ()
            answers: list[str | None] = [text_form(t) for t in completions]
            for i, is_cut in enumerate(cut):
                answers[i] = None if is_cut else answers[i]
        else:
            answers = find_answers(completions, truncated, self.extract, self.which, self.truncated)
        verdicts: list[Verdict | None] = []
        jobs: dict[Job, list[int]] = {}
        for i, (answer, gold) in enumerate(zip(answers, golds, strict=True)):
            started = time.perf_counter()
            found = self.at_once(answer, gold)
            if isinstance(found, str):
                verdicts.append(Verdict(found, answer, time.perf_counter() - started))
            else:
                verdicts.append(None)
                jobs.setdefault(found, []).append(i)
        for judged, indices in zip(self.pool.run(list(jobs)), jobs.values(), strict=True):
            for i in indices:
                shown = judged.extracted if self.extract in SEARCH_RULES else answers[i]
                verdicts[i] = replace(judged, extracted=shown)
        return [v for v in verdicts if v is not None]

    def at_once(self, answer: str | None, gold: str) -> str | Job:
        """Return an outcome that needs no worker, or the worker's job."""
        if answer is None or not answer.strip():
            return "unparsable"
        if self.extract in SEARCH_RULES:
            return f"{self.extract}-{self.which}+{self.gold}", answer, self.gold_form(gold)
        if len(answer) > max(self.max_answer_characters, len(gold)):
            return "unparsable"
        mine = bare(answer)
        theirs = self.gold_form(gold)
        outcome = compare_plain(mine, theirs) if self.gold == "answer" else None
        return outcome or (f"box+{self.gold}", mine, theirs)

    def gold_form(self, gold: str) -> str:
        """Return the gold as the workers get it; empty where it cannot be an answer."""
        return answer_form(gold) if self.gold == "answer" else text_form(gold)

    def check_golds(self, golds: Sequence[str]) -> list[str]:
        """``correct``, ``bad_gold``, ``timeout`` or ``error`` for each gold, without an answer."""
        forms = {gold: self.gold_form(gold) for gold in golds}
        found = {}
        if self.gold == "answer":
            at_once = {gold: compare_plain(form, form) for gold, form in forms.items()}
            found = {gold: outcome for gold, outcome in at_once.items() if outcome}
        jobs = {gold: (f"gold+{self.gold}", "", forms[gold]) for gold in forms if gold not in found}
        for gold, verdict in zip(jobs, self.pool.run(list(jobs.values())), strict=True):
            found[gold] = verdict.outcome
        return [found[gold] for gold in golds]

    def close(self) -> None:
        """End the workers."""
        self.pool.close()


@lru_cache(maxsize=2**16)
def answer_form(gold: str) -> str:
    """Return a gold without what is around it; empty where its braces do not match."""
    return gold_answer(gold) if balanced(gold) else ""


def text_form(text: str) -> str:
    """Return a text to be searched, its numbers in E-notation as powers of ten."""
    return with_powers_marked(text) if HAS_E.search(text) else text
