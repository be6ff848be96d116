"""How a run cuts its rollouts, steps its optimizer and evaluates: plain numbers, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nft_lightning.batching.deal import WAYS
from nft_lightning.errors import UserError

OPTIMIZERS = ("adamw", "adamw_8bit", "adamw_paged_8bit", "adamw_cpu_offload")


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


@dataclass(frozen=True)
class BatchingPlan:
    """How a rollout is cut.

    Attributes:
        updates_per_rollout: optimizer steps an epoch; the first has ratio 1 everywhere.
        max_tokens_per_micro_batch: tokens in one forward pass, padding included; it never changes the
            gradient. A row, or a group that must stay whole, that is longer is alone.
        stop_after_empty_rollouts: rollouts in a row without any usable group that end the run.
        deal: ``groups`` keeps the completions of a problem in one update; ``completions`` deals them out
            one by one, as TRL does, and in effect verl, which sorts them by length: every update then
            sees most problems of the rollout. Not for objectives that compare whole groups.
    """

    updates_per_rollout: int = 4
    max_tokens_per_micro_batch: int = 8192
    stop_after_empty_rollouts: int = 3
    deal: str = "groups"

    def __post_init__(self) -> None:
        positive = ("updates_per_rollout", "max_tokens_per_micro_batch", "stop_after_empty_rollouts")
        for name in positive:
            if getattr(self, name) < 1:
                raise UserError(f"batching.{name}", getattr(self, name), "is below 1", "use 1 or more")
        if self.deal not in WAYS:
            raise UserError("batching.deal", self.deal, "is not known", f"use {' or '.join(WAYS)}")


@dataclass(frozen=True)
class EvaluationPlan:
    """Held-out problems, and how they are answered.

    Attributes:
        problems: how many; completions_per_problem: k of avg@k and pass@k.
        every_epochs: how often; the start and the end are always evaluated.
        temperature, top_p, top_k: sampling; max_new_tokens: None means as in training.
    """

    problems: int = 100
    completions_per_problem: int = 8
    every_epochs: int = 5
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("problems", "completions_per_problem", "every_epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"evaluation.{name}", getattr(self, name), "is below 1", "use 1 or more")
        check_sampling("evaluation", self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True)
class OptimizerPlan:
    """AdamW with a linear warm-up and then a constant rate.

    Its numbers are fp32: what is stored in 16 bits (``trainer.precision=bf16-true``) has fp32 masters.

    Attributes:
        name: ``adamw``; with its two moments in 8 bit, ``adamw_8bit`` or, paged to the host where the
            device is full, ``adamw_paged_8bit`` (bitsandbytes, which has no masters); or
            ``adamw_cpu_offload``, with masters, moments and step on the host. The last two need CUDA.
        learning_rate, beta1, beta2, weight_decay: AdamW's.
        warmup_updates: optimizer steps until the full rate.
        clip_grad_norm: largest gradient norm.
        stop_after_skipped_updates: updates in a row whose loss or gradient is not finite, each left
            out, that end the run.
    """

    name: str = "adamw"
    learning_rate: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.0
    warmup_updates: int = 0
    clip_grad_norm: float = 1.0
    stop_after_skipped_updates: int = 10

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UserError(
                "optimizer.name", self.name, "is not known", f"use one of {', '.join(OPTIMIZERS)}"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(
                "optimizer.learning_rate", self.learning_rate, "is not above 0", "use 2e-4 or the like"
            )
        if not self.clip_grad_norm > 0:
            raise UserError(
                "optimizer.clip_grad_norm",
                self.clip_grad_norm,
                "is not above 0",
                "use 1.0, or .inf for none",
            )
        if self.stop_after_skipped_updates < 1:
            raise UserError(
                "optimizer.stop_after_skipped_updates",
                self.stop_after_skipped_updates,
                "is below 1",
                "use 10",
            )
        if self.weight_decay < 0 or self.warmup_updates < 0:
            raise UserError(
                "optimizer.weight_decay, optimizer.warmup_updates",
                [self.weight_decay, self.warmup_updates],
                "hold a negative number",
                "use 0 or more",
            )
