"""Which problems can be asked: those whose prompt leaves room for an answer in the context."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nft_lightning.errors import UserError
from nft_lightning.problems.prompts import AREA, PromptConfig, unencodable
from nft_lightning.types import Problem

# Results by all that they depend on: a run is checked before it starts and again when it does.
KNOWN: dict[str, dict[int, UserError]] = {}


@dataclass(frozen=True)
class Room:
    """Tokens of an answer, and the context that prompt and answer share.

    Attributes:
        new_tokens: the longest answer.
        context_tokens: the longest prompt and answer; None is without limit.
        field: the config key of ``new_tokens``, for messages.
        embeddings: how many tokens the model knows; None where that is not said.
    """

    new_tokens: int
    context_tokens: int | None
    field: str = "rollout.max_new_tokens"
    embeddings: int | None = None

    def refusal(self, problem: Problem, prompt: Sequence[int]) -> UserError | None:
        """Return why a prompt cannot be asked, None where it can."""
        unknown = max(prompt, default=0)
        if self.embeddings is not None and unknown >= self.embeddings:
            return UserError(
                "model",
                unknown,
                f"is a token of a prompt beyond the model's {self.embeddings} embeddings "
                f"(problem {problem.id})",
                "call model.resize_token_embeddings(len(tokenizer)) and save the model",
            )
        if self.context_tokens is None or len(prompt) + self.new_tokens <= self.context_tokens:
            return None
        return UserError(
            self.field,
            self.new_tokens,
            f"and a prompt of {len(prompt)} tokens exceed the context of {self.context_tokens} tokens "
            f"(problem {problem.id}, {problem.text[:60]!r})",
            "use shorter prompts or fewer new tokens",
        )


def unwritable(problem: Problem) -> UserError | None:
    """Return why a problem's texts could not be written to a file, None where they can."""
    texts = {"id": problem.id, "answer": problem.answer, "solution": problem.solution or ""}
    for name, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            return unencodable(name, text)
    return None


def unusable(
    problems: Sequence[Problem], prompt: PromptConfig, tokenizer: Any, room: Room, area: str = AREA
) -> dict[int, UserError]:
    """Return why problems cannot be asked, by their index; the others can.

    Args:
        problems: all are encoded, in one batch.
        prompt, tokenizer: make the prompts.
        room: what an answer needs.
        area: the config node of ``prompt``, for messages.
    """
    digest = hashlib.sha256(repr((prompt, prompt.jinja, room, area, tokenizer.name_or_path)).encode())
    for problem in problems:
        digest.update(repr(problem).encode())
    key = digest.hexdigest()
    if key not in KNOWN:
        found = {}
        encoded = prompt.encode_all(tokenizer, [p.text for p in problems], area)
        for i, ids in enumerate(encoded):
            if (error := unwritable(problems[i])) is not None:
                found[i] = error
            elif isinstance(ids, UserError):
                found[i] = ids
            elif (refusal := room.refusal(problems[i], ids)) is not None:
                found[i] = refusal
        KNOWN[key] = found
    return KNOWN[key]


def told(problems: Sequence[Problem], refused: dict[int, UserError], what: str) -> str:
    """Return one line about what is left out, empty where nothing is.

    Raises:
        UserError: nothing is left.
    """
    if not refused:
        return ""
    first = min(refused)
    if len(refused) == len(problems):
        raise refused[first]
    names = [problems[i].id for i in sorted(refused)][:3]
    more = ", ..." if len(refused) > len(names) else ""
    field, value, problem, _ = refused[first].given
    return (
        f"{len(refused)} of {len(problems)} {what} ({', '.join(names)}{more}): "
        f"{field}={value!r} {problem}"
    )
