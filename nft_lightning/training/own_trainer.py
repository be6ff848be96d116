"""What of Lightning's flags and callbacks cannot train a policy, and what to use under a Trainer of
one's own.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import lightning as L

from nft_lightning.errors import UserError


class Refusal(NamedTuple):
    """What is wrong with a callback, and what to use instead: of a config, and in a script."""

    problem: str
    in_config: str
    in_script: str


UPDATES = "use batching.updates_per_rollout and batching.max_tokens_per_micro_batch"
BATCHES = "use RolloutDataModule(updates_per_rollout=..., max_tokens_per_micro_batch=...)"
CLIPPING = "use PolicyModule(clip_grad_norm=...)"
LAYERS = Refusal(
    "changes what the optimizer holds, where shards, masters and weight sync expect one set of weights",
    "use policy.lora_rank=16",
    "use load_policy(PATH, lora_rank=16)",
)

CALLBACKS: dict[str, Refusal] = {
    "BackboneFinetuning": LAYERS,
    "BaseFinetuning": LAYERS,
    "BasePredictionWriter": Refusal(
        "is never called: a run predicts nothing",
        "use nft-eval run=FOLDER",
        "use nft-eval on what module.save_pretrained(FOLDER) wrote",
    ),
    "BatchSizeFinder": Refusal(
        "has no batch size to find: micro-batches are packed by tokens",
        "use batching.max_tokens_per_micro_batch, and nft-plan to choose it",
        "use RolloutDataModule(max_tokens_per_micro_batch=...), and nft-plan to choose it",
    ),
    "GradientAccumulationScheduler": Refusal(
        "does not know an optimizer step made by hand",
        UPDATES,
        BATCHES,
    ),
    "LearningRateFinder": Refusal(
        "tries rates on one rollout, whose loss does not tell which is best",
        "use nft-train -m sweep=learning_rate",
        "use nft-train -m sweep=learning_rate",
    ),
    "ModelPruning": Refusal(
        "renames the weights, by whose names they reach the engine and the export",
        "prune the exported model",
        "prune what module.save_pretrained(FOLDER) wrote",
    ),
    "StochasticWeightAveraging": Refusal(
        "replaces the weights after the last evaluation and takes over the learning rate",
        "use lightning.pytorch.callbacks.WeightAveraging or EMAWeightAveraging",
        "use lightning.pytorch.callbacks.WeightAveraging or EMAWeightAveraging",
    ),
}
"""Callbacks of ``lightning.pytorch.callbacks`` that a run refuses, their subclasses included."""

FLAGS: dict[str, tuple[str, str]] = {
    "accumulate_grad_batches": ("has no effect: one batch is one optimizer step", BATCHES),
    "gradient_clip_algorithm": ("has no effect: gradients are clipped by their norm", CLIPPING),
    "gradient_clip_val": ("has no effect: the optimizer step is made by hand", CLIPPING),
    "limit_train_batches": (
        "cuts an epoch, which is one rollout and all of its updates",
        "use RolloutDataModule(problems_per_rollout=..., updates_per_rollout=...), or max_steps",
    ),
    "limit_val_batches": (
        "has no effect: an evaluation is one batch of problems",
        "use EvaluationConfig(problems=...), or 0 for no evaluation",
    ),
    "overfit_batches": (
        "has no effect: each epoch has a new rollout",
        "use RolloutDataModule(same_problems=True)",
    ),
}
"""Arguments of ``lightning.Trainer`` that are refused, with what to use instead in a script."""


def refused_base(cls: Any) -> str | None:
    """Return the name of the refused callback of Lightning's that a class is or derives from."""
    for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
        if base.__module__.startswith("lightning.pytorch.callbacks.") and base.__name__ in CALLBACKS:
            return base.__name__
    return None


def asked_for(trainer: L.Trainer) -> dict[str, Any]:
    """Return the flags in :data:`FLAGS` that differ from Lightning's defaults, with their values."""
    found: dict[str, Any] = {"gradient_clip_val": trainer.gradient_clip_val or None}
    if trainer.gradient_clip_algorithm is not None:
        found["gradient_clip_algorithm"] = trainer.gradient_clip_algorithm.value
    if trainer.accumulate_grad_batches != 1:
        found["accumulate_grad_batches"] = trainer.accumulate_grad_batches
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        # It sets the limits, too.
        found["overfit_batches"] = trainer.overfit_batches  # type: ignore[attr-defined]
    elif not trainer.fast_dev_run:  # type: ignore[attr-defined]
        found["limit_train_batches"] = other_than_all(trainer.limit_train_batches)
        found["limit_val_batches"] = other_than_all(trainer.limit_val_batches) or None
    return {name: value for name, value in found.items() if value is not None}


def other_than_all(limit: Any) -> Any:
    """Return a limit of batches; None for 1.0, which is all of them, where 1 is one batch."""
    return None if isinstance(limit, float) and limit == 1.0 else limit


def check_own_trainer(trainer: L.Trainer) -> None:
    """Raise UserError for a flag or a callback that would be ignored, or would spoil the training."""
    for name, value in asked_for(trainer).items():
        raise UserError(f"Trainer({name})", value, *FLAGS[name])
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        base = refused_base(type(callback))
        if base is not None:
            refusal = CALLBACKS[base]
            kind = type(callback).__name__
            raise UserError("Trainer(callbacks)", kind, refusal.problem, refusal.in_script)
