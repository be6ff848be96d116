"""Optimizers and schedules of one's own, tried on tiny weights before a model is loaded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nft_lightning.errors import UserError, first_line
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import built_optimizer, tiny_weights
from nft_lightning.training.schedule import built_schedule, described


def rehearse(config: OptimizerConfig, total: int | None) -> None:
    """Raise UserError where a few updates of tiny weights by what is one's own of ``config`` fail.

    ``total`` is the run's number of updates.
    """
    if config.custom is None and isinstance(config.schedule, str):
        return
    # The named ones may need a library or a device, and have checks of their own.
    config = dataclasses.replace(config, name="adamw")
    optimizer_remedy = "give an optimizer of torch with _partial_: true"
    with refused("optimizer.custom", config.custom, optimizer_remedy):
        optimizer = built_optimizer(config, tiny_weights(), [config.learning_rate])
        optimizer.step()
    schedule_remedy = (
        "give a function of the update that returns a factor, or a scheduler of torch, "
        "with _partial_: true"
    )
    with refused("optimizer.schedule", config.schedule, schedule_remedy):
        schedule = built_schedule(config, optimizer, total)
        for _ in range(config.warmup_updates + 3):
            optimizer.step()
            schedule.step()
            rates = [float(group["lr"]) for group in optimizer.param_groups]
            if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
                raise ValueError(f"it gives a rate of {rates[0]}")


@contextmanager
def refused(field: str, value: Any, remedy: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a UserError about ``field``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem = f"cannot be used ({first_line(error)})"
        raise UserError(field, described(value), problem, remedy) from error
