"""How much a rollout generates, how completions are drawn and where they end, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError
from nft_lightning.types import Sampling

OLD_LOGPROBS = ("auto", "writer", "trainer")


@dataclass(frozen=True)
class RolloutConfig:
    """How much a rollout generates.

    Attributes:
        problems_per_rollout: groups that one epoch trains on, at most.
        completions_per_problem: K.
        max_generation_rounds: with an algorithm that drops uniform groups, how often missing
            groups are refilled, the first round included (dynamic sampling).
        same_problems: every rollout asks the first problems again, with new completions; for finding
            out whether a policy learns them.
        max_new_tokens, temperature, top_p, top_k: the sampling of training completions.
        stop: texts that end a completion, which keeps them; for base models.
        stop_token_ids: token ids that end one, beside those of tokenizer and generation config.
        max_staleness: how many rollouts ago the weights were current that write a rollout; 0 writes
            each with the weights that it is trained on.
        old_logprobs: whose log-probabilities are the old ones of a ratio: of the ``writer`` of the
            completions, as the engine reported them, or of the ``trainer``'s weights as the rollout's
            training begins. ``auto`` is ``trainer`` where both are the same policy, else ``writer``.
        path: the folder of a run whose recorded rollouts are trained on; None writes new ones.
    """

    problems_per_rollout: int = bounded(64, least=1)
    completions_per_problem: int = bounded(8, least=1)
    max_generation_rounds: int = bounded(2, least=1)
    same_problems: bool = False
    max_new_tokens: int = bounded(64, least=1)
    temperature: float = bounded(1.0, above=0, use="1.0")
    top_p: float = 1.0
    top_k: int = 0
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    max_staleness: int = bounded(0, least=0)
    old_logprobs: str = bounded("auto", choices=OLD_LOGPROBS)
    path: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "rollout")
        if self.path is not None and self.max_staleness:
            raise UserError(
                "rollout.max_staleness",
                self.max_staleness,
                "has no effect on rollouts that are written already",
                "leave it out",
            )
        if self.top_p != 1 or self.top_k != 0:
            raise UserError(
                "rollout.top_p" if self.top_p != 1 else "rollout.top_k",
                self.top_p if self.top_p != 1 else self.top_k,
                "biases every ratio, because the trainer's log-probabilities know no such filter",
                "train with top_p=1 and top_k=0; filters belong to evaluation",
            )

    @property
    def off_policy(self) -> bool:
        """Return whether other weights write a rollout than those that begin to train on it."""
        return self.max_staleness > 0 or self.path is not None

    @property
    def writers_logprobs(self) -> bool:
        """Return whether old log-probabilities are those of the policy that wrote the completions."""
        if self.old_logprobs == "auto":
            return self.off_policy
        return self.old_logprobs == "writer"

    @property
    def sampling(self) -> Sampling:
        """As the engines take it."""
        stop, stop_token_ids = tuple(self.stop), tuple(self.stop_token_ids)
        return Sampling(self.temperature, self.max_new_tokens, stop=stop, stop_token_ids=stop_token_ids)


def check_sampling(area: str, temperature: float, top_p: float, top_k: int) -> None:
    """Raise UserError where an evaluation could draw nothing; ``area`` is the part of the config."""
    if temperature < 0 or not 0 < top_p <= 1 or top_k < 0:
        raise UserError(
            f"{area}.temperature, {area}.top_p, {area}.top_k",
            [temperature, top_p, top_k],
            "is no sampling",
            "use temperature >= 0, 0 < top_p <= 1 and top_k >= 0",
        )


def check_stops(area: str, stop: Sequence[str], stop_token_ids: Sequence[int], tokenizer: Any) -> None:
    """Raise UserError for a stop string or a token id that no completion can hold.

    ``area`` is the part of the config; ``tokenizer`` is the model's.
    """
    special = set(tokenizer.all_special_tokens)
    for text in stop:
        held = next((token for token in special if token in text), None)
        if held is not None:
            raise UserError(
                f"{area}.stop",
                text,
                f"holds the special token {held}, which the text of a completion never does",
                f"use {area}.stop_token_ids=[{tokenizer.convert_tokens_to_ids(held)}]",
            )
        if not text:
            raise UserError(f"{area}.stop", text, "is empty", "leave it out")
    for token in stop_token_ids:
        if not 0 <= token < len(tokenizer):
            raise UserError(
                f"{area}.stop_token_ids",
                token,
                "is not a token of this model",
                f"use ids from 0 to {len(tokenizer) - 1}",
            )
