"""What a checkpoint says of the optimizer's config, so that a run may continue with other numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from nft_lightning.errors import UserError
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import built_optimizer, parameter_groups, tiny_weights
from nft_lightning.training.schedule import described


def numbers_of(
    config: OptimizerConfig, learning_rates: Sequence[float], total_updates: int | None
) -> dict[str, Any]:
    """Return what a checkpoint keeps of ``config``.

    Args:
        learning_rates: the full rate of each part that trains.
        total_updates: of the whole run; None is no end.
    """
    return {
        "kind": kind_of(config),
        "custom": described(config.custom),
        "learning_rates": list(learning_rates),
        "betas": [config.beta1, config.beta2],
        "epsilon": config.epsilon,
        "weight_decay": config.weight_decay,
        "schedule": described(config.schedule),
        "min_factor": config.min_factor,
        "warmup_updates": config.warmup_updates,
        "total_updates": total_updates,
    }


def kind_of(config: OptimizerConfig) -> str:
    """Return whose state a checkpoint holds: equal for optimizers that continue each other's."""
    if config.custom is not None:
        return described(getattr(config.custom, "func", config.custom))
    return "adamw_8bit" if config.name.endswith("8bit") else "adamw"


def check_same_kind(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise UserError unless the optimizer of ``now`` can continue with the state of ``before``."""
    if before["kind"] != now["kind"]:
        raise UserError(
            "optimizer",
            now["kind"],
            f"cannot continue with the state of {before['kind']}",
            "continue with the optimizer that the run was begun with, or begin a new run",
        )


def give_numbers(
    optimizer: Any, config: OptimizerConfig, parts: Sequence[nn.Module], rates: Sequence[float]
) -> None:
    """Give the groups of an optimizer, which a checkpoint has filled, the numbers of the config."""
    (fresh, *_) = built_optimizer(config, tiny_weights(), rates[:1]).param_groups
    own = {key: value for key, value in fresh.items() if key not in ("name", "params")}
    for group, given in zip(optimizer.param_groups, parameter_groups(config, parts, rates), strict=True):
        group.update(own, lr=given["lr"], weight_decay=given["weight_decay"])
