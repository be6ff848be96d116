"""The engine of a run, built once the Trainer is known, and given the policy's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from functools import partial
from typing import Any

import lightning as L
import torch

from nft_lightning.common.timing import PhaseTimer
from nft_lightning.distributed.ranks import gather_or_raise
from nft_lightning.engines.adapters import Rounding
from nft_lightning.engines.adapters_alone import check_adapted_layers, check_alone
from nft_lightning.engines.base import Engine, EngineConfig, SyncReport
from nft_lightning.engines.ends import end_ids
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.lora import has_adapters
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.prepare import settle, whole_copy
from nft_lightning.problems.base import ProblemSource
from nft_lightning.problems.prompts import PromptConfig
from nft_lightning.problems.room import Room
from nft_lightning.rollouts.collector import Collector
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.rollouts.drawn import askable
from nft_lightning.rollouts.sync_check import SyncCheck, numbers_of
from nft_lightning.training.strategies.exchange import shards_parameters
from nft_lightning.types import Problem
from nft_lightning.verifiers.base import Verifier

PROBED = 8


class SyncedEngine:
    """The engine, the collector that asks it, and the check that it holds the policy's weights.

    Attributes:
        logprob_gap: the largest gap that the last check found.
        survived: the share of the adapters' sums that the engine's type kept at the last sync; None
            without.
        last_sync: what the last weight transfer did.
    """

    def __init__(
        self,
        policy: Policy,
        problems: ProblemSource,
        verifier: Verifier,
        rollout: RolloutConfig,
        prompt: PromptConfig,
        engine: EngineConfig,
        sync_check: SyncCheck,
        room: Room,
        timer: PhaseTimer,
    ) -> None:
        self.policy, self.problems, self.verifier = policy, problems, verifier
        self.rollout, self.prompt, self.room, self.timer = rollout, prompt, room, timer
        self.engine_config, self.sync_check = engine, sync_check
        self.logprob_gap = 0.0
        self.survived: float | None = None
        self.last_sync: SyncReport | None = None
        self.built: Any = None
        self.probe: Sequence[tuple[int, ...]] = ()
        self.made: tuple[Engine, Collector] | None = None

    @property
    def engine(self) -> Engine:
        """Return the engine, which there is once a Trainer is known."""
        return self.ready[0]

    @property
    def collector(self) -> Collector:
        """Return the collector around the engine."""
        return self.ready[1]

    @property
    def ready(self) -> tuple[Engine, Collector]:
        """Return engine and collector; UserError before a Trainer is known."""
        if self.made is None:
            raise UserError(
                "RolloutDataModule",
                None,
                "has no engine yet",
                "use it in trainer.fit or trainer.validate",
            )
        return self.made

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the prompt of a problem's text."""
        return self.prompt.encode(self.policy.tokenizer, text)

    def askable(self, problems: Sequence[Problem], new_tokens: int) -> list[Problem]:
        """Return those of ``problems`` whose prompts can be made and leave room for the answer."""
        return askable(problems, self.encode, replace(self.room, new_tokens=new_tokens))

    def connect(self, trainer: L.Trainer, held_out: Sequence[Problem]) -> None:
        """Build engine and collector for this Trainer, unless those that are there fit it.

        Args:
            held_out: problems whose prompts make the probe of the sync check.

        Raises:
            UserError: the engine cannot run the model or its adapters.
        """
        policy, device = self.policy, trainer.strategy.root_device
        settle(policy, device, trainer.precision_plugin)
        policy.numbers = numbers_of(policy, trainer.precision_plugin)
        config = self.engine_config.like_trainer(policy.numbers)
        copied = config.copies_model or (config.uses_trainer_model and shards_parameters(trainer))
        wanted = (config, copied, policy.numbers)
        if self.built == wanted:
            return
        self.check(config)
        model = policy.model
        if copied:
            # Neither shards nor parameters that train meanwhile can be sampled from: a copy can.
            half = torch.bfloat16 if trainer.precision == "bf16-mixed" else None
            model = whole_copy(policy, device, half)
        engine = config.build(model, policy.tokenizer)
        self.made, self.built = (engine, self.collector_of(engine)), wanted
        probed = [self.encode(p.text) for p in self.askable(held_out, 1)[:PROBED]]
        self.probe = self.sync_check.probe(probed, self.room.context_tokens)

    def check(self, config: EngineConfig) -> None:
        """Raise UserError where the engine of ``config`` cannot run this policy."""
        own = self.policy.config or PolicyConfig()
        check_alone(config, own)
        check_adapted_layers(config, own, self.policy.model)
        transformers_config: Any = self.policy.model.config
        config.check_model(transformers_config, self.policy.numbers.products)

    def collector_of(self, engine: Engine) -> Collector:
        """Return the collector that asks ``engine``."""
        policy = self.policy
        ends = end_ids(policy.model, policy.tokenizer, self.rollout.stop_token_ids)
        return Collector(
            self.problems,
            engine,
            self.verifier,
            self.verifier.rewards,
            self.encode,
            self.rollout,
            self.timer,
            partial(self.prompt.encode_answer, policy.tokenizer, ends=ends),
            self.room,
        )

    def sync(self, version: int) -> None:
        """Give the engine the current weights, and check that it writes with them.

        Args:
            version: how many optimizer updates made these weights.
        """
        model = self.policy.model
        with self.timer.phase("sync"):
            stream = self.engine.stream(model)
            rounding = self.merge_rounding(model) if stream is None else None
            if stream is None:
                stream = full_tensors(model, *(() if rounding is None else (rounding,)))
            self.last_sync = self.engine.load_weights(stream, version)
            self.survived = None if rounding is None else rounding.survived()
        if self.probe:
            with self.timer.phase("sync_check"):
                self.logprob_gap = max(gather_or_raise(lambda: self.gap(version)))

    def gap(self, version: int) -> float:
        """Return the largest gap of a probe's log-probabilities; SyncError where it is too large."""
        return self.sync_check.check(self.engine, self.policy, self.probe, version)

    def merge_rounding(self, model: Any) -> Rounding | None:
        """Return what measures a merge of adapters; None where none is merged."""
        if not has_adapters(model) or self.engine.runs(model):
            return None
        return Rounding(self.engine.dtype)

    def metrics(self) -> dict[str, float]:
        """Return what the last weight sync was; nothing where there was none."""
        if self.last_sync is None:
            return {}
        merge = {} if self.survived is None else {"sync/merge_rounding": self.survived}
        return {
            **merge,
            "sync/bytes": float(self.last_sync.bytes),
            "sync/replicas": float(self.last_sync.replicas),
            "sync/probe_logprob_gap": self.logprob_gap,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what is logged of the last sync, as plain data."""
        sync = self.last_sync
        last = None if sync is None else astuple(replace(sync, seconds=0.0))
        return {"logprob_gap": self.logprob_gap, "survived": self.survived, "last_sync": last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with what :meth:`state_dict` gave."""
        self.logprob_gap = state["logprob_gap"]
        self.survived = state.get("survived")
        self.last_sync = SyncReport(*state["last_sync"]) if state["last_sync"] else None
