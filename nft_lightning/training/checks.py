"""Whether the parts of a run, and the Trainer that is to run them, fit together."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L

from nft_lightning.batching.config import BatchingConfig
from nft_lightning.batching.minibatch import check_minibatch_unit
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective
from nft_lightning.objectives.tensors import UNIT_TOLERANCE
from nft_lightning.problems.base import ProblemSource
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.training.config import EvaluationConfig
from nft_lightning.types import Problem
from nft_lightning.verifiers.base import Verifier


def check_objective(
    objective: Objective,
    source: ProblemSource,
    verifier: Verifier,
    rollout: RolloutConfig,
    batching: BatchingConfig,
) -> None:
    """Raise UserError where an algorithm cannot learn from what the other parts of the run give it."""
    name, needs = type(objective).__name__, objective.needed_inputs
    given = rollout.completions_per_problem
    if given < needs.group_size:
        raise UserError(
            "rollout.completions_per_problem",
            given,
            f"is too few for {name}, which compares answers to one problem",
            f"use {needs.group_size} or more",
        )
    check_rewards(objective, verifier)
    verifier.check_problems(sample(source))
    check_minibatch_unit(batching.minibatch_unit, objective, "algorithm")
    check_staleness(objective, rollout)
    if needs.references and all(p.solution is None for p in sample(source)):
        raise UserError(
            "problems",
            source.problem(0, 0).id,
            f"has no worked solution, from which {name} learns",
            'use problems=arithmetic or stories, or give "solution" on each line of problems=jsonl',
        )


def check_staleness(objective: Objective, rollout: RolloutConfig) -> None:
    """Raise UserError where the log-probabilities of older weights cannot be used as asked."""
    name, needs = type(objective).__name__, objective.needed_inputs
    if rollout.off_policy and needs.references:
        field = "path" if rollout.path else "max_staleness"
        raise UserError(
            f"rollout.{field}",
            getattr(rollout, field),
            f"has no effect on {name}, which reads worked solutions and samples nothing",
            "leave it out",
        )
    if rollout.off_policy and not rollout.writers_logprobs and needs.writers_logprobs:
        raise UserError(
            "rollout.old_logprobs",
            rollout.old_logprobs,
            f"is not the policy whose accuracy {name} splits into right and wrong answers",
            "use writer",
        )
    if rollout.writers_logprobs and objective.importance_correction != "none":
        raise UserError(
            "algorithm.importance_correction",
            objective.importance_correction,
            "has no effect where the old log-probabilities are the writer's own",
            "use none, or rollout.old_logprobs=trainer",
        )


def sample(source: ProblemSource) -> Sequence[Problem]:
    """Return every training problem of a finite source, the first one of an endless one."""
    return source.training or [source.problem(0, 0)]


def check_rewards(objective: Objective, verifier: Verifier) -> None:
    """Raise UserError where an algorithm that needs right and wrong, or rewards in [0, 1], would get
    anything else.
    """
    if objective.required_inputs.unit_rewards:
        check_range(objective, verifier)
    if not objective.required_inputs.binary_rewards:
        return
    name = type(objective).__name__
    if verifier.is_continuous():
        raise UserError(
            "verifier",
            type(verifier).__name__,
            f"gives continuous rewards, but {name} needs right or wrong",
            "use verifier=math_verify, or an algorithm that takes them, such as grpo",
        )
    rewards = {getattr(verifier.rewards, o) for o in ("correct", "wrong", "unparsable", "timeout")}
    if not rewards <= {0.0, 1.0, None}:
        raise UserError(
            "verifier.rewards",
            sorted(r for r in rewards if r is not None),
            f"are not binary, which {name} needs",
            "use 0, 1 or null",
        )


def check_range(objective: Objective, verifier: Verifier) -> None:
    """Raise UserError where the verifier says that rewards may be outside [0, 1]."""
    found = verifier.reward_range()
    if found is None:
        return
    least, largest = found
    if least < -UNIT_TOLERANCE or largest > 1 + UNIT_TOLERANCE:
        raise UserError(
            "verifier",
            type(verifier).__name__,
            f"gives rewards from {least:g} to {largest:g}, but {type(objective).__name__} needs them "
            "in [0, 1]",
            "scale verifier.rewards, or the weights in verifier.parts, or use algorithm=grpo",
        )


def check_own_critic(objective: Objective, *, lora: bool = False, cut: bool = False) -> None:
    """Raise UserError where a critic with a trunk of its own cannot train.

    Args:
        lora: the policy trains adapters only. cut: gradients are in parts on the ranks.
    """
    if not objective.needed_inputs.own_critic or not (lora or cut):
        return
    reason = "would train a whole second model beside LoRA's matrices"
    if cut:
        reason = "is not cut over the ranks by FSDP2 or ZeRO"
    remedy = "use algorithm.critic=head" + (", or trainer=ddp" if cut else ", or policy.lora_rank=0")
    raise UserError("algorithm.critic", "own", reason, remedy)


def check_temperature(rollout: float, policy: float) -> None:
    """Raise UserError unless completions are sampled at the temperature of the log-probabilities."""
    if rollout != policy:
        raise UserError(
            "rollout.temperature",
            rollout,
            f"is not the policy's {policy}, at which log-probabilities are taken",
            f"use load_policy(PATH, temperature={rollout})",
        )


def check_trainer(trainer: L.Trainer, evaluation: EvaluationConfig, held_out: int) -> None:
    """Raise UserError where a Trainer of one's own has a strategy or a precision that cannot train.

    Args:
        held_out: how many problems an evaluation asks; each rank needs one.
    """
    check_strategy(trainer)
    check_precision(trainer)
    if held_out < trainer.world_size:
        remedy = "use more problems"
        ranks = f"is too few for {trainer.world_size} ranks"
        raise UserError("evaluation.problems", held_out, ranks, remedy)
    every, given = trainer.check_val_every_n_epoch, evaluation.every_epochs
    if given not in (every, type(evaluation).every_epochs):
        raise UserError(
            "evaluation.every_epochs",
            given,
            f"is not the Trainer's check_val_every_n_epoch={every}, which decides",
            f"use Trainer(check_val_every_n_epoch={given}) and leave every_epochs out",
        )


def check_strategy(trainer: L.Trainer) -> None:
    """Raise UserError for Lightning's own strategies that cut parameters over the ranks."""
    from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

    from nft_lightning.training.strategies.fsdp2 import FullySharded

    strategy = trainer.strategy
    sharded = isinstance(strategy, DeepSpeedStrategy | FSDPStrategy | ModelParallelStrategy)
    if sharded and not isinstance(strategy, FullySharded):
        raise UserError(
            "Trainer(strategy)",
            type(strategy).__name__,
            "cuts parameters in a way that weight sync and checkpoints cannot read",
            "use strategy=nft_lightning.FullySharded(), which is FSDP2, or nft_lightning.ZeRO(stage=2)",
        )


def check_precision(trainer: L.Trainer) -> None:
    """Raise UserError for Lightning's plugins of half precision that would spoil numbers of ours."""
    from lightning.pytorch.plugins import HalfPrecision, MixedPrecision

    plugin = trainer.precision_plugin
    if isinstance(plugin, HalfPrecision):
        raise UserError(
            "Trainer(precision)",
            trainer.precision,
            "would make log-probabilities, token weights and metrics half, too",
            'use load_policy(PATH, dtype="bfloat16") and leave precision out',
        )
    if isinstance(plugin, MixedPrecision) and plugin.scaler is not None:
        raise UserError(
            "Trainer(precision)",
            trainer.precision,
            "scales the gradients, so that they would be clipped at another norm",
            "use bf16-mixed",
        )
