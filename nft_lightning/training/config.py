"""How a run steps its optimizer and evaluates: plain numbers, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError
from nft_lightning.rollouts.config import check_sampling

OPTIMIZERS = ("adamw", "adamw_8bit", "adamw_paged_8bit", "adamw_cpu_offload")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class EvaluationConfig:
    """Held-out problems, and how they are answered.

    Attributes:
        problems: how many; completions_per_problem: k of avg@k and pass@k.
        every_epochs: how often; the start and the end are always evaluated.
        temperature, top_p, top_k: sampling; max_new_tokens: None means as in training.
    """

    problems: int = bounded(100, least=1)
    completions_per_problem: int = bounded(8, least=1)
    every_epochs: int = bounded(5, least=1)
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = bounded(None, least=1)

    def __post_init__(self) -> None:
        check_bounds(self, "evaluation")
        check_sampling("evaluation", self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and then a schedule, constant by default.

    Its numbers are fp32: what is stored in 16 bits (``trainer.precision=bf16-true``) has fp32 masters.

    Attributes:
        name: ``adamw``; with its two moments in 8 bit, ``adamw_8bit`` or, paged to the host where the
            device is full, ``adamw_paged_8bit`` (bitsandbytes, which has no masters); or
            ``adamw_cpu_offload``, with masters, moments and step on the host. The last two need CUDA.
        custom: what makes an optimizer of one's own from parameter groups, in place of ``name``. Its
            groups have the rates and the weight decay of this config; everything else is its own.
        learning_rate, beta1, beta2, epsilon: AdamW's.
        weight_decay: of matrices, embeddings included; norms and biases have none.
        schedule: the factor of the rate after the warm-up: ``constant``; ``linear`` or ``cosine``, which
            fall to ``min_factor`` at the last update that the trainer allows; a function from the
            update, counted from the end of the warm-up, to the factor, which gets ``total_updates`` if
            it has a parameter of that name; or what makes a torch ``LRScheduler`` of an optimizer.
        min_factor: where ``linear`` and ``cosine`` end.
        warmup_updates: optimizer steps until the full rate. An update that is left out counts neither
            for the warm-up nor for the schedule.
        clip_grad_norm: largest gradient norm.
        stop_after_skipped_updates: updates in a row whose loss or gradient is not finite, each left
            out, that end the run.
    """

    name: str = bounded("adamw", choices=OPTIMIZERS)
    custom: Any = None
    learning_rate: float = bounded(2e-4, above=0, finite=True, use="2e-4 or the like")
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = bounded(1e-8, above=0, finite=True, use="1e-8")
    weight_decay: float = bounded(0.0, least=0)
    schedule: Any = "constant"
    min_factor: float = bounded(0.0, least=0, most=1, use="0.1")
    warmup_updates: int = bounded(0, least=0)
    clip_grad_norm: float = bounded(1.0, above=0, use="1.0, or .inf for none")
    stop_after_skipped_updates: int = bounded(10, least=1, use="10")

    def __post_init__(self) -> None:
        check_bounds(self, "optimizer")
        if self.custom is not None and not callable(self.custom):
            raise UserError(
                "optimizer.custom",
                self.custom,
                "makes no optimizer",
                "give a node with _target_ and _partial_: true",
            )
        if self.custom is not None and self.name != "adamw":
            raise UserError(
                "optimizer.name", self.name, "is not used with optimizer.custom", "leave out one of them"
            )
        if self.schedule not in SCHEDULES and not callable(self.schedule):
            raise UserError(
                "optimizer.schedule",
                self.schedule,
                "is not known",
                f"use one of {', '.join(SCHEDULES)}, or a node with _target_ and _partial_: true",
            )
        if self.min_factor and self.schedule not in ("linear", "cosine"):
            raise UserError(
                "optimizer.min_factor",
                self.min_factor,
                "has no effect with this optimizer.schedule",
                "use optimizer.schedule=cosine or linear, or leave it out",
            )
