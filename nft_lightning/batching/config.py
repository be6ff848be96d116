"""How a rollout is cut into optimizer batches: plain numbers, checked."""

from __future__ import annotations

from dataclasses import dataclass

from nft_lightning.batching.minibatch import MINIBATCH_UNITS
from nft_lightning.common.bounds import bounded, check_bounds


@dataclass(frozen=True)
class BatchingConfig:
    """How a rollout is cut.

    Attributes:
        updates_per_rollout: optimizer steps per epoch; the first has ratio 1 everywhere.
        max_tokens_per_micro_batch: tokens in one forward pass, padding included; it never changes the
            gradient. A row, or a group that must stay whole, that is longer has one to itself.
        stop_after_empty_rollouts: rollouts in a row without any usable group that end the run.
        minibatch_unit: ``completion`` assigns completions to updates one by one, as TRL does, and in
            effect verl, which sorts them by length: every update then sees most problems of the rollout.
            ``group`` keeps the completions of a problem in one update. ``auto`` is ``group`` for
            objectives that compare whole groups, and ``completion`` for all others.
    """

    updates_per_rollout: int = bounded(4, least=1)
    max_tokens_per_micro_batch: int = bounded(8192, least=1)
    stop_after_empty_rollouts: int = bounded(3, least=1)
    minibatch_unit: str = bounded("auto", choices=MINIBATCH_UNITS)

    def __post_init__(self) -> None:
        check_bounds(self, "batching")
