"""How far a run is: what it has asked so far, this epoch's rollout, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nft_lightning.batching.split import within_budget
from nft_lightning.distributed.ranks import gather_objects, own_part
from nft_lightning.rollouts import serialized as packing
from nft_lightning.training.queue import Written
from nft_lightning.types import OptimizerBatch, Rollout

COUNTERS = ("cursor", "rollout_index", "empty_rollouts", "completions", "tokens")


class Progress:
    """Counts rollouts, and keeps the batches of the current one until their updates are done.

    Attributes:
        cursor: the first problem that no rollout has asked. rollout_index: the next rollout's number.
        empty_rollouts: how many in a row held no usable group.
        completions, tokens: how many have been generated.
        rollout: this epoch's. pending: its batches that are not trained on yet; None until it is made.
        cut_short: the last epoch ended before all its updates, as ``max_steps`` may have it.
    """

    def __init__(self) -> None:
        self.cursor = self.rollout_index = self.empty_rollouts = 0
        self.completions = self.tokens = 0
        self.rollout: Rollout | None = None
        self.pending: list[OptimizerBatch] | None = None
        self.cut_short = False

    def begin_epoch(self, written: Written, batches: Sequence[OptimizerBatch]) -> None:
        """Take a rollout and its batches, all at once: an interrupted rollout never was."""
        rollout = written.rollout
        self.rollout, self.cursor, self.pending = rollout, written.cursor, list(batches)
        self.completions += int(rollout.metrics["rollout/completions"])
        self.tokens += int(rollout.metrics["rollout/tokens"])
        self.rollout_index += 1
        self.empty_rollouts = 0 if rollout.groups else self.empty_rollouts + 1

    def trained(self, batch: OptimizerBatch) -> None:
        """``batch`` has done its update."""
        self.pending = [b for b in self.pending or [] if b.step_in_epoch > batch.step_in_epoch]

    def finish_epoch(self) -> bool:
        """Return whether all updates of the epoch are done."""
        self.cut_short = bool(self.pending)
        if not self.cut_short:
            self.pending = None
        return not self.cut_short

    def axes(self) -> dict[str, float]:
        """Return the axes of every curve: problems, completions and tokens so far."""
        return {
            "progress/problems": float(self.cursor),
            "progress/completions": float(self.completions),
            "progress/tokens": float(self.tokens),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the counters; within an epoch also the rollout and what is left of it.

        That is every rank's batches: a collective call.
        """
        state: dict[str, Any] = {name: getattr(self, name) for name in COUNTERS}
        if self.pending is not None:
            state["pending"] = gather_objects([packing.pack_batch(batch) for batch in self.pending])
            state["rollout"] = packing.pack_rollout(self.rollout) if self.rollout else None
        return state

    def load_state_dict(self, state: dict[str, Any], max_tokens_per_micro_batch: int) -> None:
        """Continue where the saved run stood; larger micro-batches are split."""
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.rollout = self.pending = None
        if "pending" in state:
            every = [[packing.unpack_batch(b) for b in batches] for batches in state["pending"]]
            self.pending = own_part(within_budget(every, max_tokens_per_micro_batch))
            if state["rollout"] is not None:
                self.rollout = packing.unpack_rollout(state["rollout"])
