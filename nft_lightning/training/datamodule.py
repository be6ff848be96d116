"""The LightningDataModule: one rollout of the current policy an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nft_lightning.batching.config import BatchingConfig
from nft_lightning.batching.layout import layout
from nft_lightning.batching.split import within_budget
from nft_lightning.common.timing import PhaseTimer
from nft_lightning.distributed.join import check_world
from nft_lightning.distributed.preemption import PreemptionHandler
from nft_lightning.distributed.ranks import gather_objects, gather_or_raise, own_part
from nft_lightning.engines.adapters import Rounding
from nft_lightning.engines.base import Engine, SyncReport, completion_seed
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.policy.agreement import check_equal_weights
from nft_lightning.problems.base import check_ids
from nft_lightning.rollouts import serialized as packing
from nft_lightning.rollouts.collector import Collector
from nft_lightning.rollouts.partition import engine_copies
from nft_lightning.training.config import EvaluationConfig
from nft_lightning.types import Group, OptimizerBatch, Problem, Rollout, Sampling

COUNTERS = ("cursor", "rollout_index", "empty_rollouts", "completions", "tokens")


class LazyRollout:
    """A loader with a length that rolls out when it is iterated, once an epoch."""

    def __init__(self, make: Callable[[], Sequence[OptimizerBatch]], length: int) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[OptimizerBatch]:
        yield from self.make()


class RolloutDataModule(L.LightningDataModule):
    """Owns what decides which problems come next and who answers them."""

    def __init__(
        self,
        collector: Collector,
        engine: Engine,
        objective: Objective,
        batching: BatchingConfig,
        evaluation: EvaluationConfig,
        seed: int,
        timer: PhaseTimer,
        check_sync: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__()
        self.check_sync, self.logprob_gap = check_sync, 0.0
        # The share of the adapters' sums that the engine's type kept at the last sync; None without.
        self.survived: float | None = None
        self.collector, self.engine, self.objective = collector, engine, objective
        # Servers may come back without their weights between two syncs.
        engine.resync = self.sync
        self.batching, self.evaluation = batching, evaluation
        self.seed, self.timer = seed, timer
        self.cursor = self.rollout_index = self.empty_rollouts = 0
        self.completions = self.tokens = 0
        self.rollout: Rollout | None = None
        # The batches of this epoch that are not trained on yet; None until its rollout is made.
        self.pending: list[OptimizerBatch] | None = None
        self.cut_short = False
        self.preemption = PreemptionHandler()
        self.last_sync: SyncReport | None = None
        self.last_evaluation: list[Group] = []
        held_out = collector.source.held_out(evaluation.problems)
        check_ids(held_out)
        self.held_out: list[Problem] = collector.askable(
            held_out, self.evaluation_sampling.max_new_tokens
        )

    def train_dataloader(self) -> LazyRollout:
        """Return a fresh rollout each time Lightning begins an epoch."""
        return LazyRollout(self.next_rollout, self.batching.updates_per_rollout)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """This rank's indices of held-out problems, in one batch."""
        place, shares = engine_copies(self.engine)
        mine = torch.arange(place, len(self.held_out), shares)
        # With a generator of its own, an evaluation draws none of the run's random numbers.
        own = torch.Generator().manual_seed(self.seed)
        return DataLoader(mine, batch_size=max(1, len(mine)), generator=own)  # type: ignore[arg-type]

    @property
    def rank(self) -> int:
        """This process among the trainer's."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        """Return how many processes train."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def policy_module(self) -> Any:
        """Return the module in training."""
        assert self.trainer is not None
        return self.trainer.lightning_module

    def sync(self) -> None:
        """Give the engine the current weights, and check that it writes with them."""
        module = self.policy_module
        with self.timer.phase("sync"):
            rounding = self.merge_rounding(module.policy.model)
            stream = self.stream(module.policy.model, rounding)
            self.last_sync = self.engine.load_weights(stream, module.policy_version)
            self.survived = None if rounding is None else rounding.survived()
        check_sync = self.check_sync
        if check_sync is not None:
            with self.timer.phase("sync_check"):
                self.logprob_gap = max(gather_or_raise(lambda: check_sync(module.policy_version)))

    def stream(self, model: Any, rounding: Rounding | None) -> Iterator[tuple[str, Tensor]]:
        """Return what the next sync sends: all weights, or what an engine itself asks for."""
        if hasattr(self.engine, "stream"):
            found: Iterator[tuple[str, Tensor]] = self.engine.stream(model)
            return found
        return full_tensors(model, *(() if rounding is None else (rounding,)))

    def merge_rounding(self, model: Any) -> Rounding | None:
        """Return what measures a merge of adapters; None where none is merged."""
        if not hasattr(model, "peft_config") or self.engine.runs(model):
            return None
        if hasattr(self.engine, "stream"):
            return None
        return Rounding(self.engine.dtype)

    def next_rollout(self) -> list[OptimizerBatch]:
        """Return the epoch's batches, computed in the precision that trains: else the ratio would not
        be 1.

        After a resume in mid-epoch, those that were left.
        """
        assert self.trainer is not None
        if self.pending is None:
            check_world(self.world_size)
            check_equal_weights(self.policy_module)
            # Nothing of the state changes before all of it is there: an interrupted rollout never was.
            with self.preemption.interruptible(), self.trainer.precision_plugin.forward_context():
                rollout, cursor, batches = self.roll_out()
            self.rollout, self.cursor, self.pending = rollout, cursor, batches
            self.completions += int(rollout.metrics["rollout/completions"])
            self.tokens += int(rollout.metrics["rollout/tokens"])
            self.rollout_index += 1
            self.empty_rollouts = 0 if rollout.groups else self.empty_rollouts + 1
        # An empty batch stands for the updates that were all done: the epoch's evaluation is still due.
        nothing = OptimizerBatch([], self.batching.updates_per_rollout, -1)
        return [b.to(self.policy_module.device) for b in self.pending] or [nothing]

    def trained(self, batch: OptimizerBatch) -> None:
        """``batch`` has done its update."""
        self.pending = [b for b in self.pending or [] if b.step_in_epoch > batch.step_in_epoch]

    def finish_epoch(self) -> bool:
        """Return whether all updates of the epoch are done, which ``max_steps`` may prevent."""
        self.cut_short = bool(self.pending)
        if not self.cut_short:
            self.pending = None
        return not self.cut_short

    def roll_out(self) -> tuple[Rollout, int, list[OptimizerBatch]]:
        """Sync, collect, prepare, lay out, and add what the current policy has to say."""
        self.sync()
        if self.objective.needed_inputs.references:
            rollout, cursor = self.collector.read_solutions(self.cursor, self.seed)
        else:
            rollout, cursor = self.collector.collect(
                self.cursor, self.seed, self.rollout_index, self.objective.drop_uniform_groups
            )
        self.engine.sleep()
        batches = self.laid_out(rollout, self.objective, self.rollout_index)
        with self.timer.phase("old_logprobs"), torch.no_grad():
            return rollout, cursor, [self.completed(batch, self.objective) for batch in batches]

    def laid_out(self, rollout: Rollout, objective: Objective, index: int) -> list[OptimizerBatch]:
        """This rank's optimizer batches of rollout number ``index``; all objectives split alike."""
        limit = self.collector.plan.max_new_tokens
        truncated = rollout.truncated.bool()
        outcomes = Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, limit, truncated)
        return layout(
            rollout,
            objective.signal(outcomes),
            updates=self.batching.updates_per_rollout,
            max_tokens_per_micro_batch=self.batching.max_tokens_per_micro_batch,
            reduction=objective.reduction,
            max_new_tokens=limit,
            seed=completion_seed(self.seed, "layout", index, 0, 0),
            rank=self.rank,
            world_size=self.world_size,
            pad_id=self.policy_module.policy.tokenizer.pad_token_id,
            whole_groups=objective.needed_inputs.whole_groups,
            minibatch_unit=self.batching.minibatch_unit,
        )

    def completed(self, batch: OptimizerBatch, objective: Objective) -> OptimizerBatch:
        """On the policy's device, with old and reference log-probabilities and old values as needed.

        The first step needs nothing old: its ratio is 1.
        """
        module, needs = self.policy_module, objective.needed_inputs
        stale = batch.step_in_epoch > 0
        made = []
        for micro in (m.to(module.device) for m in batch.micro_batches):
            added: dict[str, Any] = {}
            if stale and (needs.old_logprobs or needs.values):
                out = module.policy(micro, hidden=needs.values)
                added["old_logprobs"] = out.logprobs
                self.timer.tokens["old_logprobs"] += int(micro.mask.sum())
                if needs.values:
                    added["old_values"] = module.critic(out.hidden)
            if needs.reference_logprobs:
                added["reference_logprobs"] = module.frozen.logprobs(module.policy, micro)
            made.append(replace(micro, **added) if added else micro)
        return replace(batch, micro_batches=made)

    @property
    def evaluation_sampling(self) -> Sampling:
        """Return how answers to held-out problems are drawn; they end where training's end."""
        plan, training = self.evaluation, self.collector.plan.sampling
        return replace(
            training,
            temperature=plan.temperature,
            max_new_tokens=plan.max_new_tokens or training.max_new_tokens,
            top_p=plan.top_p,
            top_k=plan.top_k,
        )

    def evaluate(self, indices: Sequence[int]) -> list[Group]:
        """Answers to held-out problems from the current weights, with seeds of their own."""
        plan, sampling = self.evaluation, self.evaluation_sampling
        seeds = [
            [completion_seed(self.seed, "eval", 0, i, k) for k in range(plan.completions_per_problem)]
            for i in indices
        ]
        problems = [self.held_out[i] for i in indices]
        with self.preemption.interruptible():
            self.sync()
            phases = ("evaluate", "evaluate")
            every = gather_or_raise(lambda: self.collector.answer(problems, sampling, seeds, phases))
        self.last_evaluation = own_part(every)
        self.engine.sleep()
        return self.last_evaluation

    @property
    def gave_up(self) -> bool:
        """Too many rollouts in a row held nothing to learn from."""
        return self.empty_rollouts >= self.batching.stop_after_empty_rollouts

    def progress(self) -> dict[str, float]:
        """Return the axes of every curve, problems, completions and tokens so far, and the last sync."""
        assert self.last_sync is not None
        merge = {} if self.survived is None else {"sync/merge_rounding": self.survived}
        return {
            **merge,
            "sync/bytes": float(self.last_sync.bytes),
            "sync/replicas": float(self.last_sync.replicas),
            "sync/probe_logprob_gap": self.logprob_gap,
            "progress/problems": float(self.cursor),
            "progress/completions": float(self.completions),
            "progress/tokens": float(self.tokens),
        }

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Optimizer batches lie on the device already."""
        if isinstance(batch, OptimizerBatch):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        """Return what decides what comes next; a collective call within an epoch.

        There it holds the rollout, and every rank's batches that are left.
        """
        state: dict[str, Any] = {name: getattr(self, name) for name in COUNTERS}
        state["logprob_gap"] = self.logprob_gap
        state["survived"] = self.survived
        sync = self.last_sync
        state["last_sync"] = None if sync is None else astuple(replace(sync, seconds=0.0))
        if self.pending is not None:
            mine = [packing.pack_batch(batch) for batch in self.pending]
            state["pending"] = gather_objects(mine)
            state["rollout"] = packing.pack_rollout(self.rollout) if self.rollout else None
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the saved run stood."""
        for name in COUNTERS:
            setattr(self, name, state_dict[name])
        self.logprob_gap = state_dict["logprob_gap"]
        self.survived = state_dict.get("survived")
        self.last_sync = SyncReport(*state_dict["last_sync"]) if state_dict["last_sync"] else None
        self.rollout = self.pending = None
        if "pending" in state_dict:
            every = [[packing.unpack_batch(b) for b in batches] for batches in state_dict["pending"]]
            budget = self.batching.max_tokens_per_micro_batch
            self.pending = own_part(within_budget(every, budget))
            if state_dict["rollout"] is not None:
                self.rollout = packing.unpack_rollout(state_dict["rollout"])
