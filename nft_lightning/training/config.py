"""How a run steps its optimizer and evaluates: plain numbers, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nft_lightning.errors import UserError
from nft_lightning.rollouts.config import check_sampling

OPTIMIZERS = ("adamw", "adamw_8bit", "adamw_paged_8bit", "adamw_cpu_offload")


@dataclass(frozen=True)
class EvaluationConfig:
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
class OptimizerConfig:
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
