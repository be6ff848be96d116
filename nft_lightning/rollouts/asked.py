"""What a run asks its model, checked before weights are loaded: prompts, room, ends of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nft_lightning.policy.loading import Inspected
from nft_lightning.policy.shape import shape_of
from nft_lightning.problems.base import ProblemSource
from nft_lightning.problems.prompt_checks import check_prompt
from nft_lightning.problems.prompts import AREA, PromptConfig
from nft_lightning.problems.room import Room, told, unusable
from nft_lightning.rollouts.config import check_stops
from nft_lightning.types import Problem

# Of a source without an end, so many problems are looked at before the start.
PROBLEMS_CHECKED = 100


@dataclass(frozen=True)
class Asked:
    """What is known of a run's prompts before it starts.

    Attributes:
        room: what an answer needs in training.
        left_out: a line for each kind of problems of which some are not asked.
    """

    room: Room
    left_out: tuple[str, ...]


def room_of(inspected: Inspected, engine: Any, new_tokens: int, field: str) -> Room:
    """Return what an answer of ``new_tokens`` needs of a model and an engine."""
    embeddings = None if inspected.config is None else shape_of(inspected.config).vocab_size
    return Room(new_tokens, context_of(inspected, engine), field, embeddings)


def context_of(inspected: Inspected, engine: Any) -> int | None:
    """Return the smaller of the model's context and the engine's; None where neither has a limit."""
    limits = (inspected.context_tokens, engine.context_tokens())
    return min((limit for limit in limits if limit is not None), default=None)


def check_asked(
    inspected: Inspected,
    source: ProblemSource,
    prompt: PromptConfig,
    rollout: Any,
    evaluation: Any,
    engine: Any,
) -> Asked:
    """Encode all prompts of a finite source and a sample of an endless one, and the held-out ones.

    Args:
        inspected: tokenizer, context and config of the model.
        source, prompt, rollout, evaluation, engine: as a run's config describes them.

    Raises:
        UserError: no prompt can be made, or none of a kind leaves room for an answer.
    """
    check_prompt(prompt, inspected.tokenizer)
    check_stops("rollout", rollout.stop, rollout.stop_token_ids, inspected.tokenizer)
    training = source.training
    if training is None:
        training = [source.problem(i, 0) for i in range(PROBLEMS_CHECKED)]
    room = room_of(inspected, engine, rollout.max_new_tokens, "rollout.max_new_tokens")
    lines = [told(training, unusable(training, prompt, inspected.tokenizer, room), "training problems")]
    held_out = source.held_out(evaluation.problems)
    asked = room
    if evaluation.max_new_tokens:
        asked = replace(room, new_tokens=evaluation.max_new_tokens, field="evaluation.max_new_tokens")
    lines.append(
        told(held_out, unusable(held_out, prompt, inspected.tokenizer, asked), "held-out problems")
    )
    return Asked(room, tuple(line for line in lines if line))


def choose(
    problems: Sequence[Problem],
    prompt: PromptConfig,
    tokenizer: Any,
    room: Room,
    what: str,
    area: str = AREA,
) -> tuple[list[Problem], list[Problem], str]:
    """Return the problems that can be asked, those that are left out, and a line about the latter.

    Raises:
        UserError: none can be asked.
    """
    refused = unusable(problems, prompt, tokenizer, room, area)
    kept = [p for i, p in enumerate(problems) if i not in refused]
    left = [problems[i] for i in sorted(refused)]
    return kept, left, told(problems, refused, what)
