"""The loop: its order of events, its versions, and a new algorithm as one class and one yaml."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import pytest
import torch

from nft_lightning import (
    NFT,
    ArithmeticProblems,
    BatchingConfig,
    Completion,
    EvaluationConfig,
    PolicyModule,
    RolloutDataModule,
    SyncCheck,
    Verdict,
    load_policy,
)
from nft_lightning.app import run as running
from nft_lightning.app.parts import build_parts
from nft_lightning.engines.base import Engine, EngineConfig, SyncReport
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.types import Signal, TokenLoss
from nft_lightning.verifiers.base import Verifier
from nft_lightning.verifiers.rewards import RewardRules
from tests.processes import cli

pytestmark = pytest.mark.slow


class RecordingEngine(Engine):
    def __init__(self, events, stale=False, short=False):
        self.events, self.stale, self.short = events, stale, short
        self.policy_version = -1

    def load_weights(self, named_tensors, version):
        count = len(list(named_tensors))
        self.policy_version = version
        self.events.append(f"sync {version}")
        return SyncReport(version, count, 0, 0.0)

    def generate(self, prompts, sampling, seeds):
        self.events.append("generate")
        version = self.policy_version - self.stale
        made = [
            [Completion((20 + k, 2), f"{k}", (-1.0, -1.0), False, version) for k, _ in enumerate(group)]
            for group in seeds
        ]
        return made[:-1] if self.short else made

    def replicas(self):
        return [self]

    def sleep(self):
        pass


@dataclass(frozen=True)
class EngineOf(EngineConfig):
    """The config of an engine that is there already."""

    engine: RecordingEngine

    def build(self, model, tokenizer):
        return self.engine


class RecordingVerifier(Verifier):
    def __init__(self, events, outcomes=("correct", "wrong")):
        self.events, self.outcomes = events, outcomes
        self.rewards = RewardRules()

    def verify(self, completions, golds, truncated=None):
        self.events.append("verify")
        return [Verdict(self.outcomes[i % len(self.outcomes)]) for i in range(len(completions))]

    def close(self):
        self.events.append("close")


def make(events, engine=None, verifier=None, updates=2, stop_after=2):
    engine = engine or RecordingEngine(events)
    verifier = verifier or RecordingVerifier(events)
    policy = load_policy("tiny")
    data = RolloutDataModule(
        policy,
        ArithmeticProblems(),
        verifier,
        prompt_template="equals",
        engine=EngineOf(engine),
        batching=BatchingConfig(updates, 64, stop_after),
        evaluation=EvaluationConfig(4, 2, 1),
        sync_check=SyncCheck(prompts=0),
        problems_per_rollout=4,
        completions_per_problem=2,
        max_generation_rounds=2,
    )
    module = PolicyModule(policy, NFT())
    original = module.training_step

    def recorded(batch, batch_idx):
        events.append(f"train {batch.step_in_epoch}")
        return original(batch, batch_idx)

    module.training_step = recorded
    return module, data


def trainer(epochs=2):
    return L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def test_the_order_of_events():
    events = []
    module, data = make(events)
    trainer().fit(module, data)
    epoch = lambda v: [  # noqa: E731
        f"sync {v}",
        "generate",
        "verify",
        "train 0",
        "train 1",
        f"sync {v + 2}",
        "generate",
        "verify",
    ]
    assert events == epoch(0) + epoch(2)


def test_stale_completions_are_refused():
    events = []
    module, data = make(events, engine=RecordingEngine(events, stale=True))
    with pytest.raises(RuntimeError, match="policy version"):
        trainer().fit(module, data)
    assert not any(e.startswith("train") for e in events)


def test_missing_completions_are_refused():
    events = []
    module, data = make(events, engine=RecordingEngine(events, short=True))
    with pytest.raises(RuntimeError, match="completions where"):
        trainer().fit(module, data)


def test_rollouts_without_a_usable_group_stop_by_the_rule(caplog):
    events = []
    module, data = make(events, verifier=RecordingVerifier(events, outcomes=("wrong",)), stop_after=2)
    before = torch.cat([p.detach().flatten().clone() for p in module.policy.parameters()])
    fit = trainer(epochs=9)
    fit.fit(module, data)
    after = torch.cat([p.detach().flatten() for p in module.policy.parameters()])
    assert fit.current_epoch == 2
    assert module.policy_version == 0
    assert torch.equal(before, after)
    assert "2 rollouts in a row" in caplog.text


def test_groups_with_an_unreadable_gold_are_left_out():
    events = []
    module, data = make(
        events, verifier=RecordingVerifier(events, outcomes=("correct", "wrong", "bad_gold"))
    )
    trainer(1).fit(module, data)
    for group in data.progress.rollout.groups:
        assert {v.outcome for v in group.verdicts} == {"correct", "wrong"}


def test_a_gradient_that_is_not_finite_is_skipped():
    events = []
    module, data = make(events)
    parameter = next(module.policy.parameters())
    parameter.register_hook(lambda g: g * float("nan"))
    before = parameter.detach().clone()
    fit = trainer(1)
    fit.fit(module, data)
    assert torch.equal(before, parameter)
    assert module.policy_version == 0
    assert fit.callback_metrics["optimizer/skipped_updates"] == 2


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_ratio_is_one_while_the_weights_stand_still(precision, compose_config, quick, tmp_path):
    cfg = compose_config(
        f"trainer.precision={precision}",
        "optimizer.learning_rate=1e-30",
        f"run_dir={tmp_path}",
        "callbacks=none",
        *quick,
    )
    running.run(cfg)
    with open(tmp_path / "metrics.csv") as file:
        logged = [r for r in csv.DictReader(file) if r["objective/kl_old_new"]]
    assert [float(r["objective/ratio_right_mean"]) for r in logged] == pytest.approx(
        [1.0, 1.0], abs=1e-5
    )
    assert max(float(r["objective/kl_old_new"]) for r in logged) < 1e-9


@dataclass(frozen=True, kw_only=True)
class Throwaway(Objective):
    """REINFORCE without a baseline, with a factor of its own."""

    factor: float = 1.0

    def prepare(self, outcomes: Outcomes) -> Signal:
        return Signal({"reward": outcomes.rewards}, torch.ones_like(outcomes.rewards, dtype=torch.bool))

    def token_loss(self, logprobs, old_logprobs, mask, signal) -> TokenLoss:
        return TokenLoss(-self.factor * signal["reward"][:, None] * logprobs)


def test_a_new_algorithm_from_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "mine.yaml").write_text("_target_: my_package.Mine\nfactor: 3\n")
    (tmp_path / "my_package.py").write_text(
        f"from {__name__} import Throwaway\n\n\nclass Mine(Throwaway):\n    pass\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).resolve().parents[2]}")
    result = cli(
        f"hydra.searchpath=[file://{tmp_path}]",
        "algorithm=mine",
        "trainer.max_epochs=1",
        "rollout.problems_per_rollout=4",
        "evaluation.problems=4",
        f"run_dir={tmp_path / 'run'}",
    )
    assert result.returncode == 0, result.stderr
    assert "factor: 3" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_new_algorithm_is_one_class_and_one_yaml(tmp_path, compose_config, quick):
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "throwaway.yaml").write_text(
        f"_target_: {__name__}.Throwaway\nfactor: 2\n"
    )
    cfg = compose_config(
        f"hydra.searchpath=[file://{tmp_path}]",
        "algorithm=throwaway",
        f"run_dir={tmp_path / 'run'}",
        "callbacks=none",
        *quick,
    )
    parts = build_parts(cfg)
    assert parts.objective == Throwaway(factor=2.0)
    summary = running.run(cfg)
    assert summary["updates"] == 4
