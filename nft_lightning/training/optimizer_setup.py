"""What the optimizer of a run trains, at which rates, and how a resumed run continues with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from nft_lightning.objectives.contract import CriticOptions
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import built_optimizer
from nft_lightning.training.optimizer_numbers import check_same_kind, give_numbers, numbers_of
from nft_lightning.training.schedule import built_schedule, replayed


class OptimizerSetup:
    """The optimizer's config for the parts of a module that train.

    Args:
        config: how the optimizer steps.
        parts: whose parameters it holds: the policy's, a value head's, and those of its own trunk.
        critic: the rates of the latter two.

    Attributes:
        learning_rates: the full rate of each part.
        before: the numbers in the checkpoint that the run continues from; None without one.
    """

    def __init__(
        self, config: OptimizerConfig, parts: Sequence[nn.Module], critic: CriticOptions
    ) -> None:
        self.config, self.parts = config, parts
        own = config.learning_rate
        rates = [own, critic.head_learning_rate or own, critic.trunk_learning_rate or own]
        self.learning_rates = rates[: len(parts)]
        self.before: dict[str, Any] | None = None

    def build(self, total_updates: int | None, *, masters: bool) -> dict[str, Any]:
        """Return the optimizer and its schedule, as ``configure_optimizers`` does.

        Args:
            total_updates: of the whole run; None is no end. masters: the optimizer keeps them in fp32.
        """
        optimizer = built_optimizer(self.config, self.parts, self.learning_rates, masters)
        schedule = built_schedule(self.config, optimizer, total_updates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def numbers(self, total_updates: int | None) -> dict[str, Any]:
        """Return what a checkpoint keeps of the config, so that a resumed run sees what has changed."""
        return numbers_of(self.config, self.learning_rates, total_updates)

    def continue_from(self, checkpoint: dict[str, Any], total_updates: int | None) -> None:
        """Read the numbers that ``checkpoint`` was written with; UserError for another optimizer's."""
        self.before = checkpoint["optimizer_numbers"]
        now = self.numbers(total_updates)
        check_same_kind(self.before, now)
        if self.before != now:
            # The schedule is made again when training starts; the state of another kind would not fit.
            checkpoint["lr_schedulers"] = []

    def renewed(self, optimizer: Any, total_updates: int | None, updates_done: int) -> Any:
        """Give ``optimizer`` the config's numbers, and return its schedule as it is by now.

        None where the checkpoint was written with the same, or there is none.
        """
        if self.before in (None, self.numbers(total_updates)):
            return None
        give_numbers(optimizer, self.config, self.parts, self.learning_rates)
        return replayed(self.config, optimizer, total_updates, updates_done)
