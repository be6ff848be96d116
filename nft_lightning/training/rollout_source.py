"""Where the rollouts of a run come from: the engine, the folder of a run, or worked solutions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L

from nft_lightning.common.timing import PhaseTimer
from nft_lightning.errors import RunStoppedError
from nft_lightning.objectives.base import Objective
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.rollouts.replay import Replay
from nft_lightning.training.queue import RolloutQueue, Written
from nft_lightning.training.synced_engine import SyncedEngine
from nft_lightning.types import Problem


class RolloutSource:
    """Gives one rollout after another, each written by the weights that ``max_staleness`` asks for.

    Args:
        synced: the engine, its collector, and the check that it holds the policy's weights.
        config: how much a rollout generates, or which run's rollouts are read in its place.
        seed: decides which problems come when, and every sampled token.
        version: gives the number of optimizer updates behind the current weights.
        timer: counts the seconds of each phase.
    """

    def __init__(
        self,
        synced: SyncedEngine,
        config: RolloutConfig,
        seed: int,
        version: Callable[[], int],
        timer: PhaseTimer,
    ) -> None:
        self.synced, self.seed = synced, seed
        self.version, self.timer = version, timer
        self.queue = RolloutQueue(config.max_staleness)
        self.replay: Replay | None = None
        if config.path is not None:
            self.replay = Replay(config.path, synced.encode)
            self.replay.check(synced.policy.tokenizer)

    def connect(self, trainer: L.Trainer, held_out: Sequence[Problem]) -> None:
        """Build the engine for this Trainer.

        Args:
            held_out: problems whose prompts make the probe of the sync check.

        Raises:
            UserError: the engine cannot run the model or its adapters.
        """
        self.synced.connect(trainer, held_out)
        engine = self.synced.engine
        # Servers may come back without their weights between two syncs.
        engine.recover_with(self.resync)
        if engine.apart and trainer.world_size == 1:
            self.queue.write_beside_training()

    def sync(self) -> None:
        """Give the engine the current weights, and check that it writes with them.

        What is being written is finished before.
        """
        with self.waiting():
            self.queue.settle()
        self.synced.sync(self.version())

    def resync(self) -> None:
        """Give the engine its weights once more; RunStoppedError where training has changed them."""
        if threading.current_thread() is not threading.main_thread():
            raise RunStoppedError(
                "an engine lost its weights while it wrote beside training, which has changed them; "
                "resume continues from the last checkpoint"
            )
        self.sync()

    def waiting(self) -> AbstractContextManager[None]:
        """Count the time inside as that in which training waits for what is written beside it."""
        return nullcontext() if self.queue.background is None else self.timer.phase("wait")

    def generates(self, objective: Objective) -> bool:
        """Return whether the engine writes the rollouts that ``objective`` trains on."""
        return self.replay is None and not objective.needed_inputs.references

    def next(self, objective: Objective, cursor: int, index: int) -> Written:
        """Return the next rollout; the same again until :meth:`taken`.

        Args:
            objective: decides whether completions or worked solutions are read, and which groups stay.
            cursor: the first problem that no rollout has asked.
            index: the number of the rollout.
        """
        generates = self.generates(objective)
        if generates:
            self.sync()
        with self.waiting():
            written = self.queue.fill(partial(self.write, objective), cursor, index)
        if generates and self.queue.background is None:
            self.synced.engine.sleep()
        staleness = self.version() - written.rollout.policy_version
        metrics = {**written.rollout.metrics, "rollout/staleness_updates": float(staleness)}
        return replace(written, rollout=replace(written.rollout, metrics=metrics))

    def taken(self) -> None:
        """Forget the rollout that :meth:`next` gave, whose batches are made."""
        self.queue.taken()

    def write(self, objective: Objective, cursor: int, index: int) -> Written:
        """Return rollout ``index``, of the problems from ``cursor`` on, by the current weights."""
        collector = self.synced.collector
        if objective.needed_inputs.references:
            return Written(*collector.read_solutions(cursor, self.seed, self.version()))
        if self.replay is not None:
            rollout = self.replay.read(index)
            return Written(rollout, cursor + len(rollout.groups))
        dropped = objective.drop_uniform_groups
        return Written(*collector.collect(cursor, self.seed, index, dropped))

    def state_dict(self) -> dict[str, Any]:
        """Return the rollouts that wait to be trained on, and what is logged of the last sync."""
        return {**self.synced.state_dict(), "queue": self.queue.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with what :meth:`state_dict` gave."""
        self.synced.load_state_dict(state)
        self.queue.load(state.get("queue", []))
