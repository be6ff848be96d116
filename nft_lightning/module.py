"""The LightningModule: one batch is one optimizer step."""

from __future__ import annotations

import copy
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from nft_lightning.datamodule import RolloutDataModule
from nft_lightning.errors import UserError
from nft_lightning.metrics.estimates import AnswerCounts
from nft_lightning.metrics.majority import majority_at_k
from nft_lightning.objectives.base import Objective
from nft_lightning.objectives.diagnostics import gradient_pair, summarise
from nft_lightning.objectives.tensors import masked_pair
from nft_lightning.policy.policy import Policy, PolicyOutput
from nft_lightning.policy.value_head import ValueHead
from nft_lightning.rollouts.mismatch import Mismatch, mismatch_metrics
from nft_lightning.timing import PhaseTimer
from nft_lightning.types import OptimizerBatch, TokenBatch, TokenLoss

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OptimizerPlan:
    """AdamW with a linear warm-up and then a constant rate.

    Attributes:
        learning_rate, beta1, beta2, weight_decay: AdamW's.
        warmup_updates: optimizer steps until the full rate.
        clip_grad_norm: largest gradient norm.
    """

    learning_rate: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.0
    warmup_updates: int = 0
    clip_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(
                "optimizer.learning_rate", self.learning_rate, "is not above 0", "use 2e-4 or the like"
            )
        if not self.clip_grad_norm > 0:
            raise UserError(
                "optimizer.clip_grad_norm",
                self.clip_grad_norm,
                "is not above 0",
                "use 1.0, or .inf for none",
            )
        if self.weight_decay < 0 or self.warmup_updates < 0:
            raise UserError(
                "optimizer.weight_decay, optimizer.warmup_updates",
                [self.weight_decay, self.warmup_updates],
                "hold a negative number",
                "use 0 or more",
            )


class PolicyModule(L.LightningModule):
    """Trains ``policy`` with ``objective`` on what :class:`RolloutDataModule` serves.

    Manual optimization: the token weights of a batch already hold the global denominator, so the
    step only sums, and the ranks' averaging is undone in one place.
    """

    updates_done: Tensor

    def __init__(
        self, policy: Policy, objective: Objective, optimizer: OptimizerPlan, timer: PhaseTimer
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.policy, self.objective = policy, objective
        self.optimizer_plan, self.timer = optimizer, timer
        self.answers = AnswerCounts()
        self.sums: dict[str, list[Tensor]] = defaultdict(list)
        self.tallies: dict[str, Tensor] = {}
        self.mismatch = Mismatch()
        needs = objective.needs
        hidden_size: Any = getattr(policy.model.config, "hidden_size", 0)
        self.critic = ValueHead(hidden_size) if needs.values else None
        # In a tuple, so that it is no submodule: not trained, saved or exported.
        self.frozen: tuple[Policy, ...] = ()
        if needs.reference_logprobs:
            self.frozen = (copy.deepcopy(policy).requires_grad_(False),)
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.long))

    @property
    def policy_version(self) -> int:
        """Optimizer updates behind the current weights."""
        return int(self.updates_done)

    @property
    def reference(self) -> Policy:
        """The policy as it was when the run began, frozen; there only where the objective needs it."""
        return self.frozen[0].to(self.device)

    @property
    def data(self) -> RolloutDataModule:
        """The attached data module."""
        found = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(found, RolloutDataModule)
        return found

    def configure_optimizers(self) -> Any:
        """AdamW, stepped by hand."""
        plan = self.optimizer_plan
        groups = [
            {"params": list(part.parameters()), "lr": rate}
            for part, rate in zip(self.trained, self.learning_rates, strict=True)
        ]
        return torch.optim.AdamW(
            groups, plan.learning_rate, betas=(plan.beta1, plan.beta2), weight_decay=plan.weight_decay
        )

    @property
    def trained(self) -> list[torch.nn.Module]:
        """What the optimizer holds, one parameter group each: the policy, and the critic if any."""
        return [self.policy] if self.critic is None else [self.policy, self.critic]

    @property
    def learning_rates(self) -> list[float]:
        """The full rate of each of ``trained``."""
        own = self.optimizer_plan.learning_rate
        return [own, getattr(self.objective, "value_learning_rate", own)][: len(self.trained)]

    def training_step(self, batch: OptimizerBatch, _: int) -> None:
        """Forward and backward of every micro-batch, then one optimizer step."""
        if batch.step_in_epoch == 0 and batch.policy_version != self.policy_version:
            raise RuntimeError(
                f"a rollout of policy version {batch.policy_version} met version {self.policy_version}"
            )
        for micro, last in mark_last(batch.micro_batches):
            self.timer.tokens["train"] += int(micro.mask.sum())
            with self.timer.phase("train"), self.gradients_synced(only_if=last):
                out, tokens = self.token_loss(self.objective, micro)
                loss = (tokens.loss * micro.token_weight).sum()
                self.watch_gradient(out.logprobs, micro)
                if not self.objective.needs.references:
                    old = out.logprobs if micro.old_logprobs is None else micro.old_logprobs
                    self.mismatch.add(old, micro.engine_logprobs, micro.mask)
                self.manual_backward(loss * self.trainer.world_size)
            self.note("objective/loss", loss.detach(), torch.tensor(1.0 if last else 0.0))
            self.note("policy/entropy_nats", *masked_pair(out.entropy, micro.mask))
            for name, pair in tokens.metrics.items():
                self.note(f"objective/{name}", *pair)
            for name, tally in tokens.sums.items():
                found = tally.detach().double().cpu()
                self.tallies[name] = self.tallies[name] + found if name in self.tallies else found
        if batch.micro_batches:
            self.step_optimizer()

    def token_loss(self, objective: Objective, micro: TokenBatch) -> tuple[PolicyOutput, TokenLoss]:
        """One forward pass, and the objective on it."""
        needs = objective.needs
        out = self.policy(micro, entropy_gradient=needs.entropy, hidden=needs.values)
        inputs = micro.inputs()
        if needs.entropy:
            inputs["entropy"] = out.entropy
        if needs.values and self.critic is not None:
            inputs["values"] = self.critic(out.hidden)
        return out, objective.loss(out.logprobs, micro.old_logprobs, micro.mask, inputs)

    def watch_gradient(self, logprobs: Tensor, micro: TokenBatch) -> None:
        """Note, in the backward pass, how much of the gradient comes from wrong answers."""

        def note(gradient: Tensor) -> None:
            pair = gradient_pair(gradient, micro.mask, micro.signal["reward"] > 0)
            self.note("objective/wrong_gradient_fraction", *pair)

        logprobs.register_hook(note)

    @contextmanager
    def gradients_synced(self, only_if: bool) -> Iterator[None]:
        """Ranks exchange gradients in the last backward of a step only."""
        model = self.trainer.model
        skip = not only_if and isinstance(model, DistributedDataParallel)
        with model.no_sync() if skip else nullcontext():  # type: ignore[union-attr,operator]
            yield

    def step_optimizer(self) -> None:
        """Clip, skip when not finite, step, schedule, count."""
        optimizer = self.optimizers()
        plan = self.optimizer_plan
        with self.timer.phase("optimizer"):
            warm = min(1.0, (self.policy_version + 1) / max(1, plan.warmup_updates))
            for group, rate in zip(optimizer.param_groups, self.learning_rates, strict=True):  # type: ignore[union-attr]
                group["lr"] = rate * warm
            norm, *others = (
                torch.nn.utils.clip_grad_norm_(part.parameters(), plan.clip_grad_norm)
                for part in self.trained
            )
            finite = all(bool(torch.isfinite(n)) for n in (norm, *others))
            if finite:
                optimizer.step()  # type: ignore[union-attr]
                self.updates_done += 1
            optimizer.zero_grad()  # type: ignore[union-attr]
        one = torch.tensor(1.0)
        self.note("optimizer/skipped_updates", one * (not finite), torch.tensor(0.0))
        if finite:
            self.note("optimizer/gradient_norm", norm.detach(), one)

    def note(self, name: str, total: Tensor, count: Tensor) -> None:
        """Add a (sum, count) pair to the epoch's metrics; count 0 makes the metric a plain sum."""
        pair = torch.stack([total.detach().float().cpu(), count.detach().float().cpu()])
        self.sums[name].append(pair)

    def on_train_epoch_end(self) -> None:
        """Log the epoch: sums over micro-batches and ranks, then one division."""
        logged = dict(self.data.rollout.metrics) if self.data.rollout else {}
        for name in sorted(self.sums):
            pair = torch.stack(self.sums[name]).sum(0).to(self.device)
            pair = self.trainer.strategy.reduce(pair, reduce_op="sum")
            total, count = pair.tolist()
            logged[name] = total / count if count else total
        if "objective/loss" in logged:
            logged["objective/loss"] *= self.trainer.world_size
        for name in sorted(self.tallies):
            tally = self.trainer.strategy.reduce(self.tallies[name].to(self.device), reduce_op="sum")
            logged.update({f"objective/{k}": v for k, v in summarise(name, tally).items()})
        reduce = self.trainer.strategy.reduce
        moments = reduce(self.mismatch.moments.to(self.device), reduce_op="sum")
        largest = reduce(self.mismatch.largest.to(self.device), reduce_op="max")
        logged.update(mismatch_metrics(moments, largest))
        self.sums.clear()
        self.tallies.clear()
        self.mismatch = Mismatch()
        logged["progress/policy_version"] = float(self.policy_version)
        logged.update(self.data.progress())
        logged.update(self.timer.drain())
        self.log_dict(logged, rank_zero_only=True)
        limit = self.data.batching.stop_after_empty_rollouts
        if self.data.empty_rollouts >= limit:
            log.warning("stopped: %d rollouts in a row held no usable group", limit)
            self.trainer.should_stop = True

    def validation_step(self, indices: Tensor, _: int) -> None:
        """Answer held-out problems and count what is right."""
        groups = self.data.evaluate(indices.tolist())
        right = torch.tensor([sum(v.correct for v in g.verdicts) for g in groups])
        samples = torch.tensor([len(g.verdicts) for g in groups])
        k = self.data.evaluation.completions_per_problem
        voted = torch.tensor([majority_at_k(g.verdicts, k) for g in groups], device=self.device)
        self.answers.update(indices, right.to(indices), samples.to(indices), voted)
        completions = [c for g in groups for c in g.completions]
        count = max(1, len(completions))
        for name, total in (
            ("response_length_mean_tokens", sum(len(c.token_ids) for c in completions)),
            ("truncated_fraction", sum(c.truncated for c in completions)),
        ):
            self.log(f"eval/{name}", total / count, batch_size=count, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """avg@k, pass@k and maj@k with their intervals."""
        found = {f"eval/{k}": v.float() for k, v in self.answers.compute().items()}
        self.answers.reset()
        self.log_dict(found, rank_zero_only=True)


def mark_last(items: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Each item with whether it is the last."""
    listed = list(items)
    return ((item, i == len(listed) - 1) for i, item in enumerate(listed))
