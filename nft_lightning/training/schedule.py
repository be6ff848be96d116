"""The learning rate over a run's updates: a warm-up, then constant, linear, cosine or one's own."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, SequentialLR

from nft_lightning.errors import UserError
from nft_lightning.training.config import OptimizerConfig

Factor = Callable[[int], float]


def total_updates(max_epochs: int | None, max_steps: int, updates_per_rollout: int) -> int | None:
    """Return the largest number of updates in a run; None where the trainer sets no end."""
    ends = []
    if max_epochs is not None and max_epochs >= 0:
        ends.append(max_epochs * updates_per_rollout)
    if max_steps >= 0:
        ends.append(max_steps)
    return min(ends, default=None)


def built_schedule(config: OptimizerConfig, optimizer: Optimizer, total: int | None) -> LRScheduler:
    """Return the scheduler of ``config.schedule``, to be stepped once after each update.

    Args:
        config: the schedule, its warm-up and its end.
        optimizer: whose groups hold their full rates.
        total: updates of the whole run, see :func:`total_updates`.

    Raises:
        UserError: the schedule needs the run's length, and the trainer sets none.
    """
    if not is_scheduler(config.schedule):
        return LambdaLR(optimizer, factor_of(config, total))
    own: LRScheduler = config.schedule(optimizer)
    if not config.warmup_updates:
        return own
    warm_up = LambdaLR(optimizer, warm_up_factor(config.warmup_updates))
    return SequentialLR(optimizer, [warm_up, own], [config.warmup_updates])


def is_scheduler(schedule: Any) -> bool:
    """Return whether ``schedule`` makes a torch scheduler of an optimizer, and is no factor."""
    made = schedule.func if isinstance(schedule, partial) else schedule
    return inspect.isclass(made) and issubclass(made, LRScheduler)


def factor_of(config: OptimizerConfig, total: int | None) -> Factor:
    """Return update number (from 0) -> factor of the full rate."""
    warm_up = warm_up_factor(config.warmup_updates)
    if config.schedule == "constant":
        return warm_up
    after = after_warm_up(config, total)

    # A function, and no object: a checkpoint would hold the attributes of one.
    def factor(update: int) -> float:
        if update < config.warmup_updates:
            return warm_up(update)
        return after(update)

    return factor


def warm_up_factor(updates: int) -> Factor:
    """Return the factor that rises linearly to 1 over ``updates``."""

    def factor(update: int) -> float:
        return min(1.0, (update + 1) / max(1, updates))

    return factor


def after_warm_up(config: OptimizerConfig, total: int | None) -> Factor:
    """Return what follows the warm-up; a function of one's own counts its updates from there."""
    if callable(config.schedule):
        known = {"total_updates": total} if takes_total(config.schedule) else {}
        return lambda update: config.schedule(update - config.warmup_updates, **known)
    if total is None:
        raise UserError(
            "optimizer.schedule",
            config.schedule,
            "needs the number of updates, and the trainer has no end",
            "give max_epochs or max_steps, or use optimizer.schedule=constant",
        )
    length = max(1, total - config.warmup_updates)

    def factor(update: int) -> float:
        done = min(1.0, (update - config.warmup_updates) / length)
        left = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
        return config.min_factor + (1 - config.min_factor) * left

    return factor


def takes_total(function: Any) -> bool:
    """Return whether a function of one's own asks for ``total_updates``, and has none yet."""
    given = function.keywords if isinstance(function, partial) else {}
    return "total_updates" in inspect.signature(function).parameters and "total_updates" not in given


def described(schedule: Any) -> str:
    """Return a schedule or an optimizer as text that is equal where its config is."""
    if isinstance(schedule, partial):
        options = sorted(schedule.keywords.items())
        return f"{described(schedule.func)} {schedule.args} {options}"
    if isinstance(schedule, str) or schedule is None:
        return str(schedule)
    named = schedule if hasattr(schedule, "__qualname__") else type(schedule)
    options = [] if named is schedule else sorted(vars(schedule).items())
    return f"{named.__module__}.{named.__qualname__} {options}"


def replayed(config: OptimizerConfig, optimizer: Any, total: int | None, updates: int) -> LRScheduler:
    """Return a new schedule as it is after ``updates``; the groups' ``lr`` are their full rates."""
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    schedule = built_schedule(config, optimizer, total)
    with warnings.catch_warnings():
        # The optimizer has not stepped in this process.
        warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step\(\)` before")
        for _ in range(updates):
            schedule.step()
    return schedule
