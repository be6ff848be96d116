"""Names of earlier versions: refused, with the name of today in the sentence."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from nft_lightning.errors import UserError

RENAMED = {
    "problems.prompt_template": "problems.prompt.template",
    "eval.plan.prompt_template": "eval.prompt.template",
    "eval.plan": "eval",
    "rollout.plan": "rollout",
    "rollout.proof": "rollout.sync_check",
    "batching.deal": "batching.minibatch_unit",
    "algorithm.discount": "algorithm.gamma",
    "algorithm.trace": "algorithm.gae_lambda",
    "algorithm.engine_correction": "algorithm.importance_correction",
    "algorithm.engine_correction_level": "algorithm.importance_correction_level",
    "algorithm.engine_ratio_low": "algorithm.importance_ratio_low",
    "algorithm.engine_ratio_high": "algorithm.importance_ratio_high",
}
"""Keys of earlier versions and their names now, each with all below it; inner keys come first."""

OF_THE_PAPER = {
    "nft": "",
    "rft": "",
    "dapo": "",
    "grpo": " trainer.max_epochs=580",
    "dr_grpo": " trainer.max_epochs=580",
    "infonca": "",
}
RENAMED_OPTIONS = {
    f"experiment={algorithm}_{size}": f"experiment={size} algorithm={algorithm}{others}"
    for size in ("qwen2.5_math_7b", "qwen2.5_32b")
    for algorithm, others in OF_THE_PAPER.items()
}
RENAMED_OPTIONS["experiment=infonca_qwen2.5_32b"] += " rollout.completions_per_problem=4"
"""``group=option`` of earlier versions, and what gives the same config now."""


def new_name(key: str) -> str | None:
    """Return what a key of an earlier version is called now; None where it is called the same."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return None


def renamed(key: str, value: Any) -> UserError:
    """Return the error for a key of an earlier version."""
    return UserError(key, value, "has another name now", f"use {new_name(key)}")


def check_renamed(cfg: DictConfig) -> None:
    """Raise UserError for a key of an earlier version."""
    for key in RENAMED:
        if (value := OmegaConf.select(cfg, key)) is not None:
            raise renamed(key, value)


def check_renamed_option(group: str, option: str) -> None:
    """Raise UserError for an option of an earlier version."""
    if (now := RENAMED_OPTIONS.get(f"{group}={option}")) is not None:
        raise UserError(group, option, "has another name now", f"use {now}")
