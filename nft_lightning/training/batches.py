"""From a rollout to this rank's optimizer batches, with what the policy that wrote it has to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nft_lightning.batching.config import BatchingConfig
from nft_lightning.batching.layout import layout
from nft_lightning.batching.minibatch import resolve_minibatch_unit
from nft_lightning.common.timing import PhaseTimer
from nft_lightning.engines.base import completion_seed
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.policy.value_model import values_of
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.training.learner_protocol import Learner
from nft_lightning.types import OptimizerBatch, Rollout


class BatchMaker:
    """Makes a rollout into optimizer batches, cut alike for all objectives.

    Args:
        rollout: how completions were drawn. batching: how they are cut.
        seed: the run's; it decides which rows share an update.
        pad_id: the token that fills rows up.
        timer: counts tokens of forward passes.
    """

    def __init__(
        self,
        rollout: RolloutConfig,
        batching: BatchingConfig,
        seed: int,
        pad_id: int,
        timer: PhaseTimer,
    ) -> None:
        self.rollout, self.batching = rollout, batching
        self.seed, self.pad_id, self.timer = seed, pad_id, timer

    def laid_out(
        self, rollout: Rollout, objective: Objective, index: int, rank: int, world_size: int
    ) -> list[OptimizerBatch]:
        """Return the batches of rollout number ``index`` for one rank."""
        truncated = rollout.truncated.bool()
        limit = self.rollout.max_new_tokens
        outcomes = Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, limit, truncated)
        return layout(
            rollout,
            objective.signal(outcomes),
            updates=self.batching.updates_per_rollout,
            max_tokens_per_micro_batch=self.batching.max_tokens_per_micro_batch,
            reduction=objective.reduction,
            max_new_tokens=limit,
            seed=completion_seed(self.seed, "layout", index, 0, 0),
            rank=rank,
            world_size=world_size,
            pad_id=self.pad_id,
            whole_groups=objective.needed_inputs.whole_groups,
            minibatch_unit=resolve_minibatch_unit(self.batching.minibatch_unit, objective),
        )

    def completed(self, batch: OptimizerBatch, objective: Objective, learner: Learner) -> OptimizerBatch:
        """Return ``batch`` with what the current policy has to say of it, as ``objective`` needs."""
        if self.rollout.writers_logprobs and objective.needed_inputs.old_logprobs:
            batch = with_writers_logprobs(batch)
        elif self.rollout.off_policy:
            # The old policy is the one that the rollout's training begins with, not the writer.
            batch = replace(batch, policy_version=learner.policy_version)
        return completed(batch, objective, learner, self.timer)


def completed(
    batch: OptimizerBatch,
    objective: Objective,
    learner: Learner,
    timer: PhaseTimer,
    *,
    first_version: int | None = None,
) -> OptimizerBatch:
    """Return ``batch`` on the policy's device, with old and reference log-probabilities and old values.

    Only what the objective needs is computed. Where the weights of the step are those that wrote the
    completions, nothing old is needed: the ratio is 1. Old log-probabilities that are there stay.

    Args:
        first_version: the policy version that the first step of the rollout meets; None is the current.

    Raises:
        RuntimeError: old log-probabilities are needed, the batch has none, and the weights that wrote
            it are gone.
    """
    policy, needs = learner.policy, objective.needed_inputs
    first = learner.policy_version if first_version is None else first_version
    stale = batch.policy_version != first + batch.step_in_epoch
    made = []
    for micro in (m.to(learner.device) for m in batch.micro_batches):
        added: dict[str, Any] = {}
        missing = needs.old_logprobs and micro.old_logprobs is None
        if stale and (missing or needs.values):
            check_version(batch, learner)
            out = policy(micro, hidden=needs.hidden)
            timer.tokens["old_logprobs"] += len(micro.known_places.predicted)
            if missing:
                added["old_logprobs"] = out.logprobs
            if needs.values:
                added["old_values"] = values_of(learner.critic, policy, micro, out.hidden)
        if needs.reference_logprobs:
            added["reference_logprobs"] = learner.frozen.logprobs(policy, micro)
        made.append(replace(micro, **added) if added else micro)
    return replace(batch, micro_batches=made)


def with_writers_logprobs(batch: OptimizerBatch) -> OptimizerBatch:
    """Return ``batch`` with the engine's log-probabilities as old ones: those of the writing policy."""
    made = [replace(micro, old_logprobs=micro.engine_logprobs) for micro in batch.micro_batches]
    return replace(batch, micro_batches=made)


def check_version(batch: OptimizerBatch, learner: Learner) -> None:
    """Raise RuntimeError unless the learner's weights wrote ``batch``, or its ratios are given."""
    given = all(micro.old_logprobs is not None for micro in batch.micro_batches)
    if batch.policy_version != learner.policy_version and not given:
        raise RuntimeError(
            f"a rollout of policy version {batch.policy_version} met version {learner.policy_version} "
            "without its old log-probabilities"
        )
