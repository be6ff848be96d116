"""The LightningDataModule: one rollout of the current policy an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn

from nft_lightning.batching.config import BatchingConfig
from nft_lightning.common.arguments import configs_with
from nft_lightning.common.timing import PhaseTimer
from nft_lightning.distributed.join import check_world
from nft_lightning.distributed.preemption import PreemptionHandler
from nft_lightning.engines.base import Engine
from nft_lightning.engines.hf.engine import HFEngineConfig
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective
from nft_lightning.policy.agreement import check_equal_weights
from nft_lightning.policy.loading import Inspected
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.shape import shape_of
from nft_lightning.problems.base import ProblemSource, check_ids
from nft_lightning.problems.prompts import PromptConfig
from nft_lightning.rollouts import serialized as packing
from nft_lightning.rollouts.asked import Asked, check_asked
from nft_lightning.rollouts.collector import Collector
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.rollouts.partition import engine_copies
from nft_lightning.rollouts.sync_check import SyncCheck
from nft_lightning.training.batches import BatchMaker
from nft_lightning.training.checks import check_objective, check_temperature, check_trainer
from nft_lightning.training.config import EvaluationConfig
from nft_lightning.training.held_out import HeldOut, evaluation_sampling
from nft_lightning.training.learner_protocol import Learner
from nft_lightning.training.loaders import LazyBatches
from nft_lightning.training.progress import Progress
from nft_lightning.training.queue import Written
from nft_lightning.training.rollout_source import RolloutSource
from nft_lightning.training.synced_engine import PROBED, SyncedEngine
from nft_lightning.types import Group, OptimizerBatch
from nft_lightning.verifiers.base import Verifier


class RolloutDataModule(L.LightningDataModule):
    """Serves one rollout of the current policy an epoch, and held-out problems to evaluate it by.

    Engine, collector and sync check are built when a Trainer is known. The objective is the one of the
    :class:`nft_lightning.PolicyModule` that trains.
    """

    def __init__(
        self,
        policy: Policy,
        problems: ProblemSource,
        verifier: Verifier,
        *,
        rollout: RolloutConfig | None = None,
        prompt: PromptConfig | None = None,
        prompt_template: str | None = None,
        engine: Any = None,
        batching: BatchingConfig | None = None,
        evaluation: EvaluationConfig | None = None,
        sync_check: SyncCheck | None = None,
        seed: int = 0,
        asked: Asked | None = None,
        **plain: Any,
    ) -> None:
        """Check that the policy can be asked the problems; start nothing.

        Args:
            policy: what :func:`nft_lightning.load_policy` returned.
            problems, verifier: where problems come from, and who scores their answers.
            rollout, batching: how much is generated, and how it is cut. plain: their fields one by one,
                such as ``max_new_tokens=512`` or ``updates_per_rollout=4``.
            prompt: what is around a problem. prompt_template: its template.
            engine: the config of who writes completions; None is the policy's own model.
            evaluation: held-out problems, and how they are answered.
            sync_check: the check after every weight sync; None is the check with its defaults.
            seed: decides which problems come when, and every sampled token.
            asked: what the check of the prompts found, where it was made before; None makes it.

        Raises:
            UserError: a keyword is not known, or no problem can be asked.
        """
        super().__init__()
        if rollout is None:
            plain.setdefault("temperature", policy.temperature)
        made = configs_with(
            "RolloutDataModule",
            plain,
            rollout=(RolloutConfig, rollout),
            batching=(BatchingConfig, batching),
        )
        self.rollout_config: RolloutConfig = made["rollout"]
        self.batching: BatchingConfig = made["batching"]
        self.evaluation = evaluation or EvaluationConfig()
        self.policy, self.problems, self.verifier, self.seed = policy, problems, verifier, seed
        check_temperature(self.rollout_config.temperature, policy.temperature)
        prompt = prompt or PromptConfig()
        if prompt_template is not None:
            prompt = replace(prompt, template=prompt_template)
        engine = engine or HFEngineConfig()
        if asked is None:
            config: Any = policy.model.config
            inspected = Inspected(policy.tokenizer, shape_of(config).context_tokens, config)
            asked = check_asked(
                inspected, problems, prompt, self.rollout_config, self.evaluation, engine
            )
        self.timer = PhaseTimer()
        self.synced = SyncedEngine(
            policy,
            problems,
            verifier,
            self.rollout_config,
            prompt,
            engine,
            sync_check or SyncCheck(),
            asked.room,
            self.timer,
        )
        self.source = RolloutSource(
            self.synced, self.rollout_config, seed, lambda: self.policy_module.policy_version, self.timer
        )
        self.batch_maker = BatchMaker(
            self.rollout_config, self.batching, seed, policy.tokenizer.pad_token_id, self.timer
        )
        self.progress = Progress()
        self.resumes_exactly = False
        self.preemption = PreemptionHandler()
        self.last_evaluation: list[Group] = []
        held_out = problems.held_out(self.evaluation.problems)
        check_ids(held_out)
        sampling = evaluation_sampling(self.evaluation, self.rollout_config.sampling)
        self.held_out = HeldOut(
            self.synced.askable(held_out, sampling.max_new_tokens),
            self.evaluation.completions_per_problem,
            sampling,
            seed,
        )

    def resume_exactly(self, preemption: PreemptionHandler | None) -> None:
        """Take checkpoints within an epoch for whole: a callback adds what they lack.

        Args:
            preemption: asked at every safe point whether to leave; None leaves that to Lightning.
        """
        self.resumes_exactly = True
        if preemption is not None:
            self.preemption = preemption

    @property
    def engine(self) -> Engine:
        """Return who writes completions; UserError before a Trainer is known."""
        return self.synced.engine

    @property
    def collector(self) -> Collector:
        """Return who asks the engine and the verifier; UserError before a Trainer is known."""
        return self.synced.collector

    def connect(self, trainer: L.Trainer) -> None:
        """Build the engine for this Trainer; :meth:`setup` does so too, unless it was done.

        Raises:
            UserError: the Trainer's strategy or precision cannot train, or the engine cannot write.
        """
        check_trainer(trainer, self.evaluation, len(self.held_out))
        probed = max(PROBED, self.evaluation.problems)
        self.source.connect(trainer, self.problems.held_out(probed))

    def setup(self, stage: str) -> None:
        """Build the engine, and check that the objective fits problems, verifier and batches."""
        assert self.trainer is not None
        module = self.policy_module
        if module.policy is not self.policy:
            raise UserError(
                "RolloutDataModule(policy)",
                None,
                "is not the PolicyModule's",
                "give both the same policy",
            )
        check_objective(
            module.objective, self.problems, self.verifier, self.rollout_config, self.batching
        )
        self.connect(self.trainer)

    def train_dataloader(self) -> LazyBatches:
        """Return a fresh rollout each time Lightning begins an epoch."""
        return LazyBatches(self.next_rollout, self.batching.updates_per_rollout)

    def val_dataloader(self) -> LazyBatches:
        """Return this rank's indices of held-out problems, in one batch."""
        place, shares = engine_copies(self.engine)
        mine = torch.arange(place, len(self.held_out), shares)
        return LazyBatches(lambda: [mine] if len(mine) else [], min(1, len(mine)))

    @property
    def policy_module(self) -> Learner:
        """Return the module in training; UserError where it is no PolicyModule."""
        found: Any = self.trainer.lightning_module if self.trainer else None
        if not isinstance(found, Learner):
            kind = type(found).__name__
            raise UserError(
                "model", kind, "is no PolicyModule", "call trainer.fit(PolicyModule(...), data)"
            )
        return found

    @property
    def objective(self) -> Objective:
        """Return the objective of the module in training."""
        return self.policy_module.objective

    def next_rollout(self) -> list[OptimizerBatch]:
        """Return the epoch's batches, computed in the precision that trains: else the ratio would not
        be 1.

        After a resume in mid-epoch, those that were left.
        """
        assert self.trainer is not None
        progress = self.progress
        if progress.pending is None:
            check_world(self.trainer.world_size)
            check_equal_weights(self.policy_module)  # type: ignore[arg-type]
            # Nothing of the state changes before all of it is there: an interrupted rollout never was.
            with self.preemption.interruptible(), self.trainer.precision_plugin.forward_context():
                written, batches = self.roll_out()
            progress.begin_epoch(written, batches)
            self.source.taken()
        # An empty batch stands for the updates that were all done: the epoch's evaluation is still due.
        nothing = OptimizerBatch([], self.batching.updates_per_rollout, -1)
        return [b.to(self.policy_module.device) for b in progress.pending or []] or [nothing]

    def roll_out(self) -> tuple[Written, list[OptimizerBatch]]:
        """Return the next rollout, laid out, with what the current policy has to say of it."""
        assert self.trainer is not None
        index = self.progress.rollout_index
        written = self.source.next(self.objective, self.progress.cursor, index)
        batches = self.batch_maker.laid_out(
            written.rollout, self.objective, index, self.trainer.global_rank, self.trainer.world_size
        )
        learner = self.policy_module
        with self.timer.phase("old_logprobs"), torch.no_grad():
            return written, [
                self.batch_maker.completed(batch, learner.objective, learner) for batch in batches
            ]

    def evaluate(self, indices: Sequence[int]) -> list[Group]:
        """Return answers to held-out problems from the current weights, with seeds of their own."""
        with self.preemption.interruptible():
            self.source.sync()
            self.last_evaluation = self.held_out.answers(self.collector, indices)
        self.engine.sleep()
        return self.last_evaluation

    @property
    def gave_up(self) -> bool:
        """Too many rollouts in a row held nothing to learn from."""
        return self.progress.empty_rollouts >= self.batching.stop_after_empty_rollouts

    def metrics(self) -> dict[str, float]:
        """Return how far the run is, and what the last weight sync was."""
        return {**self.synced.metrics(), **self.progress.axes()}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Optimizer batches are on the device already."""
        if isinstance(batch, OptimizerBatch):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        """Return what decides what comes next, and the last evaluation's answers.

        Within an epoch it is a collective call.
        """
        if self.progress.pending is not None:
            self.warn_of_position()
        answers = {"last_evaluation": packing.pack_groups(self.last_evaluation)}
        return {**self.progress.state_dict(), **self.source.state_dict(), **answers}

    def warn_of_position(self) -> None:
        """Say once that a plain Trainer does not resume exactly within an epoch."""
        between = self.trainer is not None and self.trainer.validating
        if not self.resumes_exactly and not between:
            self.resumes_exactly = True
            rank_zero_warn(
                "a checkpoint within an epoch may resume without the evaluation that is due, and has no "
                "random states: add nft_lightning.ExactResume() to the Trainer's callbacks"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the saved run stood."""
        self.progress.load_state_dict(state_dict, self.batching.max_tokens_per_micro_batch)
        if "last_evaluation" in state_dict:  # older checkpoints have it elsewhere
            self.last_evaluation = packing.unpack_groups(state_dict["last_evaluation"])
        self.source.load_state_dict(state_dict)
