"""What of Lightning's trainer and callbacks a run does by other means, and by which."""

from __future__ import annotations

import inspect
from typing import Any

from omegaconf import DictConfig

from nft_lightning.errors import UserError
from nft_lightning.training.own_trainer import CALLBACKS, UPDATES, refused_base

Refusals = dict[str, tuple[str, str]]
"""Name to what is wrong with it here, and what to use instead."""

CLIPPING = "use optimizer.clip_grad_norm"
EVALUATIONS = "use evaluation.every_epochs"

REFUSED_FLAGS: Refusals = {
    "accumulate_grad_batches": ("has no effect: one batch is one optimizer step", UPDATES),
    "barebones": ("leaves a run without any metric", "use logger=none callbacks=none"),
    "callbacks": ("is the group callbacks here", "use callbacks.NAME={_target_: package.Class}"),
    "check_val_every_n_epoch": ("has no effect: evaluations have a schedule of their own", EVALUATIONS),
    "default_root_dir": ("is the run folder here", "use run_dir=FOLDER"),
    "gradient_clip_algorithm": ("has no effect: gradients are clipped by their norm", CLIPPING),
    "gradient_clip_val": ("has no effect: the optimizer step is made by hand", CLIPPING),
    "limit_predict_batches": ("has no effect: a run predicts nothing", "use nft-eval run=FOLDER"),
    "limit_test_batches": ("has no effect: a run has no test loop", "use nft-eval run=FOLDER"),
    "limit_train_batches": (
        "has no effect: an epoch is one rollout and all of its updates",
        "use rollout.problems_per_rollout, batching.updates_per_rollout, or debug=limit",
    ),
    "limit_val_batches": (
        "has no effect: an evaluation is one batch of problems",
        "use evaluation.problems, or debug=limit",
    ),
    "logger": ("is the group logger here", "use logger=default, or logger=none"),
    "model_registry": (
        "has no effect: checkpoints are folders that stay on this machine",
        "use callbacks.export, and upload what it writes",
    ),
    "num_sanity_val_steps": (
        "has no effect: a whole evaluation comes before training",
        "leave it out",
    ),
    "overfit_batches": ("has no effect: each epoch has a new rollout", "use debug=overfit"),
    "plugins": ("is set by the run itself", "use trainer.precision and trainer.strategy"),
    "sync_batchnorm": ("has no effect: policies have no batch normalization", "leave it out"),
    "use_distributed_sampler": (
        "would split among the ranks what each rank has its own share of",
        "leave it out",
    ),
    "val_check_interval": ("has no effect: evaluations come between two rollouts", EVALUATIONS),
}
"""Keys of ``lightning.Trainer`` that a run refuses."""

REFUSED_CALLBACKS: Refusals = {
    name: (refusal.problem, refusal.in_config) for name, refusal in CALLBACKS.items()
}
"""Callbacks of ``lightning.pytorch.callbacks`` that a run refuses, their subclasses included."""


def check_callback(field: str, cls: Any) -> None:
    """Raise UserError for a callback that a run does by other means, or one derived from it.

    Args:
        field: its place in the config. cls: what its ``_target_`` names.
    """
    base = refused_base(cls)
    if base is not None:
        raise UserError(field, cls.__name__, *REFUSED_CALLBACKS[base])


def check_one_progress_bar(cfg: DictConfig, classes: dict[str, Any]) -> None:
    """Raise UserError where a bar of Lightning's would be drawn over ours.

    ``classes`` holds what each of ``cfg.callbacks`` names.
    """
    from lightning.pytorch.callbacks import ProgressBar

    if "progress" not in classes or issubclass(classes["progress"], ProgressBar):
        return
    field, value = "trainer.enable_progress_bar", cfg.trainer.get("enable_progress_bar")
    for name, cls in classes.items():
        if inspect.isclass(cls) and issubclass(cls, ProgressBar):
            field, value = f"callbacks.{name}", cls.__name__
    if value:
        raise UserError(
            field, value, "would be drawn over the run's own bar", "add callbacks.progress=null"
        )
