"""A verifier that asks a Python function."""

from __future__ import annotations

import importlib
import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nft_lightning.common.bounds import check_field
from nft_lightning.errors import UserError
from nft_lightning.types import Answer, Problem
from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.base import Verifier
from nft_lightning.verifiers.rewards import RewardRules

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class FunctionVerifier(Verifier):
    """A function decides, in the trainer's own process and without a deadline.

    It is called as ``function(completion, gold)``, with texts; or, where it takes one argument, as
    ``function(answer)`` with a :class:`nft_lightning.types.Answer`: the problem with its other columns,
    the prompt and the completion with its tokens.

    It returns a bool, 0 or 1; with ``continuous`` any finite number, which is the reward, and 1.0 or
    more counts as correct. What it raises, or anything else it returns, is an ``error``.

    Attributes:
        function: its dotted name, ``package.module.name``, or the function itself.
        continuous: rewards between right and wrong; algorithms that need binary ones refuse.
        truncated: ``score`` truncated completions like others, or call them ``unparsable``.
        rewards: what each outcome counts as.
    """

    function: Any
    continuous: bool = False
    truncated: str = "score"
    rewards: RewardRules = field(default_factory=RewardRules)

    def __post_init__(self) -> None:
        check_field("verifier.truncated", self.truncated, choices=("score", "unparsable"))
        if not callable(self.call):
            raise UserError("verifier.function", self.function, "cannot be called", "name a function")

    @cached_property
    def call(self) -> Callable[..., object]:
        """Return the function itself."""
        if not isinstance(self.function, str):
            return self.function
        module, _, name = self.function.rpartition(".")
        try:
            found: Callable[..., object] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                "verifier.function",
                self.function,
                f"cannot be imported ({error})",
                "give package.module.function",
            ) from error
        return found

    def is_continuous(self) -> bool:
        """Return whether any finite number is a reward."""
        return self.continuous

    @property
    def takes_answers(self) -> bool:
        """Return whether the function takes one argument, the whole answer."""
        try:
            parameters = inspect.signature(self.call).parameters.values()
        except (TypeError, ValueError):
            return False
        needed = [p for p in parameters if p.default is p.empty and p.kind in POSITIONAL]
        return len(needed) == 1

    def check_problems(self, problems: Sequence[Problem]) -> None:
        """Raise UserError for problems without an answer where the function is to compare with one."""
        if not self.takes_answers:
            super().check_problems(problems)

    def score(self, answers: Sequence[Answer]) -> list[Verdict]:
        """See :class:`nft_lightning.verifiers.base.Verifier`."""
        if not self.takes_answers:
            return super().score(answers)
        cut = self.truncated == "unparsable"
        return [
            Verdict("unparsable") if cut and a.completion.truncated else self.verdict(a) for a in answers
        ]

    def verify(
        self, completions: Sequence[str], golds: Sequence[str], truncated: Sequence[bool] | None = None
    ) -> list[Verdict]:
        """See :class:`nft_lightning.verifiers.base.Verifier`."""
        cut = (
            truncated
            if truncated is not None and self.truncated == "unparsable"
            else [False] * len(golds)
        )
        return [
            Verdict("unparsable") if c else self.verdict(text, gold)
            for text, gold, c in zip(completions, golds, cut, strict=True)
        ]

    def verdict(self, *given: object) -> Verdict:
        """Return the verdict on what the function is called with."""
        started = time.perf_counter()
        try:
            said = self.call(*given)
            value = math.nan if isinstance(said, str) else float(said)  # type: ignore[arg-type]
        except Exception:
            return Verdict("error", seconds=time.perf_counter() - started)
        seconds = time.perf_counter() - started
        if not math.isfinite(value) or (not self.continuous and value not in (0.0, 1.0)):
            return Verdict("error", seconds=seconds)
        outcome = "correct" if value >= 1 else "wrong"
        return Verdict(outcome, seconds=seconds, score=value if self.continuous else None)
