"""What an evaluation asks: the sets, how often, and how answers are drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError
from nft_lightning.problems.base import check_ids
from nft_lightning.problems.prompts import PromptConfig
from nft_lightning.rollouts.config import check_sampling
from nft_lightning.types import Problem, Sampling

PARTS = ("all", "held_out")


@dataclass(frozen=True)
class EvalSet:
    """One benchmark.

    Attributes:
        source: where its problems come from, as in the config group ``problems``.
        completions_per_problem: k of avg@k, pass@k and maj@k.
        problems: the first so many; None is all of them.
        in_mean: does it count in the mean over sets.
        part: ``all`` of a finite source, or its ``held_out`` part, which training never sees.
    """

    source: Any
    completions_per_problem: int = bounded(1, least=1)
    problems: int | None = bounded(None, least=1, use="1 or more, or null for all")
    part: str = bounded("all", choices=PARTS)
    in_mean: bool = True

    def __post_init__(self) -> None:
        check_bounds(self, "eval.sets")
        if self.part == "held_out" and self.problems is None:
            raise UserError("problems", None, "is needed with part=held_out", "give a number")

    def listed(self) -> list[Problem]:
        """Return the problems, in order.

        Raises:
            UserError: there is no end of them, or two have one id, so that results could not be
                distinguished.
        """
        if self.part == "held_out":
            assert self.problems is not None
            found: list[Problem] = self.source.held_out(self.problems)
        else:
            every: Sequence[Problem] | None = self.source.problems
            if every is None:
                raise UserError("part", "all", "of an endless source has no end", "use part=held_out")
            found = list(every[: self.problems])
        check_ids(found)
        return found


@dataclass(frozen=True)
class EvalConfig:
    """The sets and the sampling.

    Attributes:
        sets: :class:`EvalSet` by name; names are folder names.
        prompt: a :class:`nft_lightning.problems.prompts.PromptConfig`; None is a chat.
        max_new_tokens, temperature, top_p, top_k: how answers are drawn.
        stop, stop_token_ids: what ends them, beside what tokenizer and generation config name.
        problems_per_part: problems that are answered, judged and saved together; what an
            interruption can lose.
    """

    sets: dict[str, Any] = field(default_factory=dict)
    prompt: Any = None
    max_new_tokens: int = bounded(3584, least=1)
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    problems_per_part: int = bounded(64, least=1)

    def __post_init__(self) -> None:
        if not self.sets:
            raise UserError("eval.sets", {}, "holds no set", "choose one: eval=math_suite")
        for name in self.sets:
            if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
                raise UserError("eval.sets", name, "is no folder name", "use letters, digits and _")
        check_bounds(self, "eval")
        check_sampling("eval", self.temperature, self.top_p, self.top_k)
        if self.prompt is None:
            object.__setattr__(self, "prompt", PromptConfig())

    @property
    def sampling(self) -> Sampling:
        """As the engines take it."""
        return Sampling(
            self.temperature,
            self.max_new_tokens,
            self.top_p,
            self.top_k,
            tuple(self.stop),
            tuple(self.stop_token_ids),
        )
