"""The LightningDataModule: one rollout of the current policy an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nft_lightning.batching.layout import layout
from nft_lightning.engines.base import Engine, SyncReport, completion_seed
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.rollouts.collector import Collector
from nft_lightning.timing import PhaseTimer
from nft_lightning.types import Group, OptimizerBatch, Problem, Rollout, Sampling


@dataclass(frozen=True)
class BatchingPlan:
    """How a rollout is cut.

    Attributes:
        updates_per_rollout: optimizer steps an epoch; the first has ratio 1 everywhere.
        micro_batch_size: rows in one forward pass; it never changes the gradient.
        stop_after_empty_rollouts: rollouts in a row without any usable group that end the run.
    """

    updates_per_rollout: int = 4
    micro_batch_size: int = 64
    stop_after_empty_rollouts: int = 3

    def __post_init__(self) -> None:
        for name in ("updates_per_rollout", "micro_batch_size", "stop_after_empty_rollouts"):
            if getattr(self, name) < 1:
                raise UserError(f"batching.{name}", getattr(self, name), "is below 1", "use 1 or more")


@dataclass(frozen=True)
class EvaluationPlan:
    """Held-out problems, and how they are answered.

    Attributes:
        problems: how many; completions_per_problem: k of avg@k and pass@k.
        every_epochs: how often; the start and the end are always evaluated.
        temperature, top_p, top_k: sampling; max_new_tokens: None means as in training.
    """

    problems: int = 100
    completions_per_problem: int = 8
    every_epochs: int = 5
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("problems", "completions_per_problem", "every_epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"evaluation.{name}", getattr(self, name), "is below 1", "use 1 or more")
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise UserError(
                "evaluation.temperature, evaluation.top_p, evaluation.top_k",
                [self.temperature, self.top_p, self.top_k],
                "is no sampling",
                "use temperature >= 0, 0 < top_p <= 1 and top_k >= 0",
            )


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
        batching: BatchingPlan,
        evaluation: EvaluationPlan,
        seed: int,
        timer: PhaseTimer,
        prove: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__()
        self.prove, self.logprob_gap = prove, 0.0
        self.collector, self.engine, self.objective = collector, engine, objective
        if hasattr(engine, "resync"):
            # Servers may come back without their weights between two syncs.
            engine.resync = self.sync
        self.batching, self.evaluation = batching, evaluation
        self.seed, self.timer = seed, timer
        self.cursor = self.rollout_index = self.empty_rollouts = 0
        self.completions = self.tokens = 0
        self.rollout: Rollout | None = None
        self.last_sync: SyncReport | None = None
        self.last_evaluation: list[Group] = []
        self.held_out: list[Problem] = collector.source.held_out(evaluation.problems)

    def train_dataloader(self) -> LazyRollout:
        """A fresh rollout each time Lightning begins an epoch."""
        return LazyRollout(self.next_rollout, self.batching.updates_per_rollout)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """This rank's indices of held-out problems, in one batch."""
        mine = torch.arange(self.rank, len(self.held_out), self.world_size)
        return DataLoader(mine, batch_size=max(1, len(mine)))  # type: ignore[arg-type]

    @property
    def rank(self) -> int:
        """This process among the trainer's."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        """How many processes train."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def policy_module(self) -> Any:
        """The module in training."""
        assert self.trainer is not None
        return self.trainer.lightning_module

    def sync(self) -> None:
        """Give the engine the current weights, and prove that it plays them."""
        module = self.policy_module
        with self.timer.phase("sync"):
            self.last_sync = self.engine.load_weights(
                full_tensors(module.policy.model), module.policy_version
            )
        if self.prove is not None:
            with self.timer.phase("proof"):
                self.logprob_gap = self.prove(module.policy_version)

    def next_rollout(self) -> list[OptimizerBatch]:
        """The epoch's batches, computed in the precision that trains: else the ratio would not be 1."""
        assert self.trainer is not None
        with self.trainer.precision_plugin.forward_context():
            return self.roll_out()

    def roll_out(self) -> list[OptimizerBatch]:
        """Sync, collect, prepare, lay out, and add what the current policy has to say."""
        self.sync()
        if self.objective.needs.references:
            rollout, self.cursor = self.collector.read_solutions(self.cursor, self.seed)
        else:
            rollout, self.cursor = self.collector.collect(
                self.cursor, self.seed, self.rollout_index, self.objective.drop_uniform_groups
            )
        self.engine.rest()
        self.rollout = rollout
        self.completions += int(rollout.metrics["rollout/completions"])
        self.tokens += int(rollout.metrics["rollout/tokens"])
        batches = self.laid_out(rollout, self.objective, self.rollout_index)
        self.rollout_index += 1
        self.empty_rollouts = 0 if rollout.groups else self.empty_rollouts + 1
        with self.timer.phase("old_logprobs"), torch.no_grad():
            return [self.completed(batch, self.objective) for batch in batches]

    def laid_out(self, rollout: Rollout, objective: Objective, index: int) -> list[OptimizerBatch]:
        """This rank's optimizer batches of rollout number ``index``; all objectives split alike."""
        limit = self.collector.plan.max_new_tokens
        truncated = rollout.truncated.bool()
        outcomes = Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, limit, truncated)
        return layout(
            rollout,
            objective.signal(outcomes),
            updates=self.batching.updates_per_rollout,
            micro_batch_size=self.batching.micro_batch_size,
            reduction=objective.reduction,
            max_new_tokens=limit,
            seed=completion_seed(self.seed, "layout", index, 0, 0),
            rank=self.rank,
            world_size=self.world_size,
            pad_id=self.policy_module.policy.tokenizer.pad_token_id,
            whole_groups=objective.needs.whole_groups,
        )

    def completed(self, batch: OptimizerBatch, objective: Objective) -> OptimizerBatch:
        """On the policy's device, with old and reference log-probabilities and old values as needed.

        The first step needs nothing old: its ratio is 1.
        """
        module, needs = self.policy_module, objective.needs
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
                added["reference_logprobs"] = module.reference(micro).logprobs
            made.append(replace(micro, **added) if added else micro)
        return replace(batch, micro_batches=made)

    def evaluate(self, indices: Sequence[int]) -> list[Group]:
        """Answers to held-out problems from the current weights, with seeds of their own."""
        self.sync()
        plan, training = self.evaluation, self.collector.plan
        sampling = Sampling(
            plan.temperature, plan.max_new_tokens or training.max_new_tokens, plan.top_p, plan.top_k
        )
        seeds = [
            [completion_seed(self.seed, "eval", 0, i, k) for k in range(plan.completions_per_problem)]
            for i in indices
        ]
        problems = [self.held_out[i] for i in indices]
        self.last_evaluation = self.collector.answer(problems, sampling, seeds, ("evaluate", "evaluate"))
        self.engine.rest()
        return self.last_evaluation

    def progress(self) -> dict[str, float]:
        """The axes of every curve, problems, completions and tokens so far, and the last sync."""
        assert self.last_sync is not None
        return {
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
        """What decides the next rollout."""
        names = ("cursor", "rollout_index", "empty_rollouts", "completions", "tokens")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the saved run stood."""
        for name, value in state_dict.items():
            setattr(self, name, value)
