"""From a rollout to this rank's optimizer batches, with what the policy that wrote it has to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nft_lightning.batching.config import BatchingConfig
from nft_lightning.batching.layout import layout
from nft_lightning.common.timing import PhaseTimer
from nft_lightning.objectives.base import Objective, Outcomes
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
    batch: OptimizerBatch, objective: Objective, learner: Learner, timer: PhaseTimer
) -> OptimizerBatch:
    """Return ``batch`` on the policy's device, with old and reference log-probabilities and old values.

    Only what the objective needs is computed. The first step needs nothing old: its ratio is 1.
    """
    policy, needs = learner.policy, objective.needed_inputs
    stale = batch.step_in_epoch > 0
    made = []
    for micro in (m.to(learner.device) for m in batch.micro_batches):
        added: dict[str, Any] = {}
        if stale and (needs.old_logprobs or needs.values):
            out = policy(micro, hidden=needs.values)
            added["old_logprobs"] = out.logprobs
            timer.tokens["old_logprobs"] += int(micro.mask.sum())
            if needs.values:
                added["old_values"] = learner.critic(out.hidden)
        if needs.reference_logprobs:
            added["reference_logprobs"] = learner.frozen.logprobs(policy, micro)
        made.append(replace(micro, **added) if added else micro)
    return replace(batch, micro_batches=made)
