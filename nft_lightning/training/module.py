"""The LightningModule: one batch is one optimizer step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from nft_lightning.common.arguments import configs_with
from nft_lightning.common.timing import PhaseTimer
from nft_lightning.distributed import ranks
from nft_lightning.distributed.ranks import gather_objects, own_part
from nft_lightning.distributed.shards import clip_gradients
from nft_lightning.errors import RunStoppedError, UserError
from nft_lightning.objectives.base import Objective
from nft_lightning.objectives.tensors import masked_pair
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.critic import ValueHead
from nft_lightning.policy.lora import has_adapters
from nft_lightning.policy.policy import Policy, PolicyOutput
from nft_lightning.policy.reference import Frozen
from nft_lightning.policy.teacher import load_teacher
from nft_lightning.policy.value_model import ValueModel, critic_of, parts_of, values_of
from nft_lightning.stats.estimates import AnswerCounts
from nft_lightning.training.batches import check_version
from nft_lightning.training.checks import check_own_critic
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.datamodule import RolloutDataModule
from nft_lightning.training.export import save, whole_weights
from nft_lightning.training.held_out import count_answers, length_means
from nft_lightning.training.metrics import EpochMetrics, UpdateSums, log_step
from nft_lightning.training.optimizer_setup import OptimizerSetup
from nft_lightning.training.out_of_memory import split_until_it_fits
from nft_lightning.training.own_trainer import check_own_trainer
from nft_lightning.training.schedule import total_updates
from nft_lightning.training.strategies import exchange
from nft_lightning.training.strategies.fsdp2 import shard_all
from nft_lightning.types import OptimizerBatch, TokenBatch, TokenLoss

log = logging.getLogger(__name__)


class PolicyModule(L.LightningModule):
    """Trains ``policy`` with ``objective`` on what :class:`RolloutDataModule` serves.

    Manual optimization: the token weights of a batch already hold the global denominator, so the
    step only sums, and the ranks' averaging is undone in one place.
    """

    update: UpdateSums  # of the update in progress

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        *,
        optimizer: OptimizerConfig | None = None,
        **plain: Any,
    ) -> None:
        """Add what the objective needs beside the policy: a critic, a frozen reference.

        Args:
            policy: what :func:`nft_lightning.load_policy` returned.
            objective: the algorithm, such as ``NFT()``.
            optimizer: how it steps. plain: its fields one by one, such as ``learning_rate=1e-6``.

        Raises:
            UserError: a keyword is not known, or a value is refused.
        """
        super().__init__()
        self.automatic_optimization = False
        self.policy, self.objective = policy, objective
        made = configs_with("PolicyModule", plain, optimizer=(OptimizerConfig, optimizer))
        config: OptimizerConfig = made["optimizer"]
        self.optimizer_config = config
        self.answers = AnswerCounts()
        self.epoch = EpochMetrics()
        self.skipped_in_a_row = 0
        needs = objective.needed_inputs
        check_own_critic(objective, lora=has_adapters(policy.model))
        self.critic: ValueHead | ValueModel | None = None
        if needs.values:
            self.critic = critic_of(policy, objective.critic_options.path, own=needs.own_critic)
        self.trained: list[torch.nn.Module] = [policy, *parts_of(self.critic)]
        self.optimizer_setup = OptimizerSetup(config, self.trained, objective.critic_options)
        # Memory is saved once, when a strategy is known.
        self.memory_saved = False
        teacher = load_teacher(objective.teacher_model, policy) if needs.teacher else None
        self.frozen = Frozen(policy, needs.reference_logprobs, teacher)
        # Optimizer updates behind the current weights. No buffer: a callback may average those.
        self.policy_version = 0

    def configure_callbacks(self) -> list[L.Callback]:
        """Return none; raise UserError for flags and callbacks that cannot train.

        Lightning calls it before it looks at them itself: its own remedies are for other modules.
        """
        check_own_trainer(self.trainer)
        return []

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model and tokenizer as ``AutoModelForCausalLM.from_pretrained`` and vLLM load them.

        Adapters are merged and shards gathered, which is a collective call: call it on every rank; the
        first one writes.

        Args:
            folder: is made where it is not there.

        Raises:
            OSError: it cannot be written.
        """
        weights = whole_weights(self.policy.model, ranks.first())
        ranks.broadcast_from_rank0(lambda: save(self.policy, Path(folder), weights))

    def setup(self, stage: str) -> None:
        """Raise UserError where no data module is attached, or the strategy cannot cut the critic."""
        _ = self.data
        check_own_critic(self.objective, cut=exchange.cuts_gradients(self.trainer))

    def configure_model(self) -> None:
        """Options that save memory, then shards where the strategy brings a mesh of ranks; once."""
        if self.memory_saved:
            return
        config = self.policy.config or PolicyConfig()
        for model in (self.policy.model, *parts_of(self.critic)[1:]):
            config.save_memory(model)
        self.memory_saved = True
        if self.device_mesh is not None:
            others = (self.frozen.copy, self.critic)
            shard_all(self.policy, others, self.device_mesh, self.trainer.precision)

    @property
    def data(self) -> RolloutDataModule:
        """Return the attached data module; UserError where there is none."""
        found: RolloutDataModule | None = self.trainer.datamodule  # type: ignore[attr-defined]
        if found is None:
            raise UserError(
                "datamodule", None, "is missing", "call trainer.fit(module, RolloutDataModule(...))"
            )
        return found

    @property
    def timer(self) -> PhaseTimer:
        """Return the data module's, which both add to."""
        return self.data.timer

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule; both are stepped by hand, once per update."""
        masters = not exchange.has_masters(self.trainer)
        return self.optimizer_setup.build(self.total_updates, masters=masters)

    @property
    def total_updates(self) -> int | None:
        """Return how many updates the trainer allows; None is no end."""
        trainer, length = self.trainer, self.data.batching.updates_per_rollout
        return total_updates(trainer.max_epochs, trainer.max_steps, length)

    def on_train_start(self) -> None:
        """Give the optimizer the config's numbers where a checkpoint was written with others."""
        optimizer = self.lr_schedulers().optimizer  # type: ignore[union-attr]
        schedule = self.optimizer_setup.renewed(optimizer, self.total_updates, self.policy_version)
        if schedule is not None:
            self.trainer.strategy.lr_scheduler_configs[0].scheduler = schedule

    def training_step(self, batch: OptimizerBatch, _: int) -> dict[str, Tensor]:
        """Forward and backward of every micro-batch, then one optimizer step; return its ``loss``.

        A batch of nothing has loss 0.
        """
        if self.objective.needed_inputs.old_logprobs:
            check_version(batch, self)
        micro_batches, before = batch.micro_batches, self.epoch.kept()
        trained_tokens = self.timer.tokens["train"]

        def begin_again() -> None:
            # A backward pass that broke off has left part of its gradient.
            self.optimizers().zero_grad()  # type: ignore[union-attr]
            self.epoch.go_back(before)
            self.timer.tokens["train"] = trained_tokens
            self.epoch.note("optimizer/memory_splits", torch.tensor(1.0), torch.tensor(0.0))

        allowed = exchange.can_begin_again(self.trainer)
        split_until_it_fits(micro_batches, self.backward_all, begin_again if allowed else None)
        loss = self.step_optimizer() if micro_batches else 0.0
        self.data.progress.trained(batch)
        return {"loss": torch.tensor(loss)}

    def backward_all(self, micro_batches: Sequence[TokenBatch]) -> None:
        """Forward and backward of each."""
        self.update = UpdateSums(self.device)
        for i, micro in enumerate(micro_batches):
            self.backward_one(micro, last=i == len(micro_batches) - 1)

    def backward_one(self, micro: TokenBatch, last: bool) -> None:
        """Add a micro-batch's part of the gradient."""
        with self.timer.phase("train"), exchange.micro_batch(self.trainer, last):
            out, tokens = self.token_loss(self.objective, micro)
            loss = (tokens.loss * micro.token_weight).sum()
            self.epoch.watch_gradient(out.logprobs, micro)
            if not self.objective.needed_inputs.references:
                old = out.logprobs if micro.old_logprobs is None else micro.old_logprobs
                self.epoch.mismatch.add(old, micro.engine_logprobs, micro.mask)
            self.manual_backward(loss * self.trainer.world_size)
        self.timer.tokens["train"] += len(micro.known_places.predicted)
        entropy = masked_pair(out.entropy, micro.mask)
        self.update.add(loss, *entropy)
        self.epoch.add(micro, tokens, loss, entropy, last=last, padded=not self.policy.padding_free)

    def token_loss(self, objective: Objective, micro: TokenBatch) -> tuple[PolicyOutput, TokenLoss]:
        """Return one forward pass, and the objective on it."""
        needs = objective.needed_inputs
        out = self.policy(micro, entropy_gradient=needs.entropy, hidden=needs.hidden)
        inputs = micro.inputs()
        if needs.entropy:
            inputs["entropy"] = out.entropy
        if needs.values and self.critic is not None:
            inputs["values"] = values_of(self.critic, self.policy, micro, out.hidden)
        return out, objective.loss(out.logprobs, micro.old_logprobs, micro.mask, inputs)

    def step_optimizer(self) -> float:
        """Clip, skip when not finite, step, schedule, count; return the loss over all ranks."""
        optimizer = self.optimizers()
        config = self.optimizer_config
        with self.timer.phase("train"):
            # Here, and not before, the device is waited for.
            loss, entropy, losses_finite = self.update.reduced(self.trainer.strategy.reduce)
        with self.timer.phase("optimizer"):
            norm, *others = (clip_gradients(part, config.clip_grad_norm) for part in self.trained)
            self.log_update(loss, norm, entropy)
            finite = losses_finite and all(bool(torch.isfinite(n)) for n in (norm, *others))
            if finite:
                optimizer.step()  # type: ignore[union-attr]
                self.lr_schedulers().step()  # type: ignore[union-attr]
                self.policy_version += 1
            else:
                exchange.leave_out(self.trainer)
            optimizer.zero_grad()  # type: ignore[union-attr]
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.epoch.note_step(norm, finite, first_rank=self.trainer.is_global_zero)
        return loss

    def log_update(self, loss: float, norm: Tensor, entropy: float) -> None:
        """Log what the step about to be made is like, over all ranks; also one that is left out.

        The loggers get it now: Lightning would give it to them behind the callbacks, one of which may
        write a checkpoint that says how far they are.
        """
        logged = {
            "update/loss": loss,
            "update/gradient_norm": float(norm),
            "update/learning_rate": float(self.optimizers().param_groups[0]["lr"]),  # type: ignore[union-attr]
            "update/entropy_nats": entropy,
        }
        self.log_dict(logged, logger=False, on_step=True, on_epoch=False, batch_size=1)
        log_step(self.trainer, logged)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop where one update after the other had to be left out; the callbacks have seen them."""
        if self.skipped_in_a_row >= self.optimizer_config.stop_after_skipped_updates:
            raise RunStoppedError(
                f"the loss or gradient of {self.skipped_in_a_row} updates in a row was not finite; look "
                "at skipped/ in the run folder, then resume with a lower optimizer.learning_rate and "
                "resume_allow=[optimizer.learning_rate]"
            )

    def on_train_epoch_end(self) -> None:
        """Log the epoch, unless it was cut short: then its rollout and its sums wait for a resume."""
        if self.data.progress.finish_epoch():
            self.log_epoch()

    def epoch_metrics(self) -> dict[str, float]:
        """Return the metrics of an epoch whose updates are all done; the first call is collective."""
        return self.epoch.reduced(self.trainer.strategy.reduce, self.device, self.trainer.world_size)

    def log_epoch(self) -> None:
        """Log the sums of an epoch whose updates are all done."""
        logged = dict(self.data.progress.rollout.metrics) if self.data.progress.rollout else {}
        logged.update(self.epoch_metrics())
        self.epoch = EpochMetrics()
        logged["progress/policy_version"] = float(self.policy_version)
        logged.update(self.data.metrics())
        logged.update(self.timer.drain())
        self.log_dict(logged, rank_zero_only=True)
        if self.data.gave_up:
            empty = self.data.progress.empty_rollouts
            log.warning("stopped: %d rollouts in a row held no usable group", empty)
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what every rank has counted in this epoch; leave out weights that do not train."""
        mine = {
            "metrics": self.epoch.state_dict(),
            "seconds": dict(self.timer.seconds),
            "tokens": dict(self.timer.tokens),
            "skipped_in_a_row": self.skipped_in_a_row,
        }
        checkpoint["epoch_so_far"] = gather_objects(mine)
        checkpoint["updates_done"] = self.policy_version
        checkpoint["optimizer_numbers"] = self.optimizer_setup.numbers(self.total_updates)
        self.frozen.leave_out(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on adding; raise UserError where what does not train is not what it was."""
        self.policy_version = checkpoint["updates_done"]
        self.optimizer_setup.continue_from(checkpoint, self.total_updates)
        found = own_part(checkpoint["epoch_so_far"])
        self.epoch.load_state_dict(found["metrics"])
        self.timer.seconds.update(found["seconds"])
        self.timer.tokens.update(found["tokens"])
        self.skipped_in_a_row = found["skipped_in_a_row"]
        self.frozen.put_back(checkpoint, self.policy)

    def validation_step(self, indices: Tensor, _: int) -> None:
        """Answer held-out problems and count what is right."""
        groups = self.data.evaluate(indices.tolist())
        counted = count_answers(groups, self.data.evaluation.completions_per_problem)
        self.answers.update(indices, *(numbers.to(indices.device) for numbers in counted))
        means, count = length_means(groups)
        for name, mean in means.items():
            self.log(name, mean, batch_size=count, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """avg@k, pass@k and maj@k with their intervals."""
        found = {f"eval/{k}": v.float() for k, v in self.answers.compute().items()}
        self.answers.reset()
        self.log_dict(found, rank_zero_only=True)
