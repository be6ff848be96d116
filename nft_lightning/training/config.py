"""How a run steps its optimizer and evaluates: plain numbers, checked."""

from __future__ import annotations

from dataclasses import dataclass

from nft_lightning.common.bounds import bounded, check_bounds
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

    name: str = bounded("adamw", choices=OPTIMIZERS)
    learning_rate: float = bounded(2e-4, above=0, finite=True, use="2e-4 or the like")
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = bounded(0.0, least=0)
    warmup_updates: int = bounded(0, least=0)
    clip_grad_norm: float = bounded(1.0, above=0, use="1.0, or .inf for none")
    stop_after_skipped_updates: int = bounded(10, least=1, use="10")

    def __post_init__(self) -> None:
        check_bounds(self, "optimizer")
