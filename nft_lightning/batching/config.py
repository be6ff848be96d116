"""How a rollout is cut into optimizer batches: plain numbers, checked."""

from __future__ import annotations

from dataclasses import dataclass

from nft_lightning.batching.minibatch import MINIBATCH_UNITS
from nft_lightning.errors import UserError


@dataclass(frozen=True)
class BatchingConfig:
    """How a rollout is cut.

    Attributes:
        updates_per_rollout: optimizer steps an epoch; the first has ratio 1 everywhere.
        max_tokens_per_micro_batch: tokens in one forward pass, padding included; it never changes the
            gradient. A row, or a group that must stay whole, that is longer is alone.
        stop_after_empty_rollouts: rollouts in a row without any usable group that end the run.
        minibatch_unit: ``group`` keeps the completions of a problem in one update; ``completion``
            deals them out one by one, as TRL does, and in effect verl, which sorts them by length: every
            update then sees most problems of the rollout. Not for objectives that compare whole groups.
    """

    updates_per_rollout: int = 4
    max_tokens_per_micro_batch: int = 8192
    stop_after_empty_rollouts: int = 3
    minibatch_unit: str = "group"

    def __post_init__(self) -> None:
        positive = ("updates_per_rollout", "max_tokens_per_micro_batch", "stop_after_empty_rollouts")
        for name in positive:
            if getattr(self, name) < 1:
                raise UserError(f"batching.{name}", getattr(self, name), "is below 1", "use 1 or more")
        if self.minibatch_unit not in MINIBATCH_UNITS:
            raise UserError(
                "batching.minibatch_unit",
                self.minibatch_unit,
                "is not known",
                f"use {' or '.join(MINIBATCH_UNITS)}",
            )
