"""From a rollout to this rank's optimizer batches, with what the policy that wrote it has to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nft_lightning.batching.config import BatchingConfig
from nft_lightning.batching.layout import layout
from nft_lightning.common.timing import PhaseTimer
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.policy.value_model import values_of
from nft_lightning.training.learner import Learner
from nft_lightning.types import OptimizerBatch, Rollout


def laid_out(
    rollout: Rollout,
    objective: Objective,
    batching: BatchingConfig,
    *,
    max_new_tokens: int,
    seed: int,
    rank: int,
    world_size: int,
    pad_id: int,
) -> list[OptimizerBatch]:
    """Return this rank's optimizer batches; all objectives split alike.

    Args:
        max_new_tokens: the limit of a completion. seed: decides which rows share an update.
        pad_id: the token that fills rows up.
    """
    truncated = rollout.truncated.bool()
    outcomes = Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, max_new_tokens, truncated)
    return layout(
        rollout,
        objective.signal(outcomes),
        updates=batching.updates_per_rollout,
        max_tokens_per_micro_batch=batching.max_tokens_per_micro_batch,
        reduction=objective.reduction,
        max_new_tokens=max_new_tokens,
        seed=seed,
        rank=rank,
        world_size=world_size,
        pad_id=pad_id,
        whole_groups=objective.needed_inputs.whole_groups,
        minibatch_unit=batching.minibatch_unit,
    )


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
            timer.tokens["old_logprobs"] += int(micro.mask.sum())
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
