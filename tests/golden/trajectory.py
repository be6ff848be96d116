"""Ten updates of the embedded policy on stored completions, in float64.

    python -m tests.golden.trajectory completions    writes completions.json: what the policy answered
    python -m tests.golden.trajectory losses         writes losses.json: loss and gradient norm by update

The completions are stored, because a processor with other instructions may sample another token. What
follows from them is the same on all processors but for rounding.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra import compose, initialize_config_dir

from nft_lightning import (
    ArithmeticProblems,
    Completion,
    EvaluationConfig,
    ExactVerifier,
    PolicyModule,
    Problem,
    RolloutDataModule,
    SyncCheck,
    load_policy,
)
from nft_lightning.app.build import CONF_DIR, build
from nft_lightning.engines.base import Engine, EngineConfig, SyncReport, completion_seed
from nft_lightning.engines.hf.engine import HFEngineConfig
from nft_lightning.types import Sampling

FOLDER = Path(__file__).parent
COMPLETIONS, LOSSES = FOLDER / "completions.json", FOLDER / "losses.json"
ALGORITHMS = ("nft", "grpo", "dapo", "ppo")
ROLLOUTS, UPDATES, PROBLEMS, SAMPLES, MAX_NEW_TOKENS = 5, 2, 4, 8, 64


class FewProblems:
    """The problems of the embedded default, from the first on, whatever the seed."""

    training = None

    def problem(self, index: int, seed: int) -> Problem:
        """Return training problem number ``index``."""
        return ArithmeticProblems().problem(index, 0)

    def held_out(self, count: int) -> list[Problem]:
        """Return what no evaluation asks here."""
        return ArithmeticProblems().held_out(count)


class StoredEngine(Engine):
    """Gives back the stored completions of each prompt."""

    def __init__(self, stored: dict[str, list[list[int]]], tokenizer: Any) -> None:
        self.stored, self.tokenizer = stored, tokenizer

    def load_weights(self, named_tensors: Any, version: int) -> SyncReport:
        """Take the version and nothing else."""
        self.policy_version = version
        return SyncReport(version, len(list(named_tensors)), 0, 0.0)

    def generate(self, prompts: Any, sampling: Sampling, seeds: Any) -> list[list[Completion]]:
        """Return the stored completions, as if the current weights had written them."""
        return [[self.completion(ids) for ids in self.stored[named(p)]] for p in prompts]

    def completion(self, ids: list[int]) -> Completion:
        """Return one, with log-probabilities that nobody reads."""
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        truncated = len(ids) == MAX_NEW_TOKENS
        return Completion(tuple(ids), text, (0.0,) * len(ids), truncated, self.policy_version)

    def replicas(self) -> list[Engine]:
        """Return itself."""
        return [self]

    def sleep(self) -> None:
        """Hold nothing."""


@dataclass(frozen=True)
class StoredEngineConfig(EngineConfig):
    """The config of a :class:`StoredEngine`."""

    def build(self, model: Any, tokenizer: Any) -> Engine:
        """Return the engine with what lies beside this file."""
        return StoredEngine(json.loads(COMPLETIONS.read_text()), tokenizer)


class Noted(PolicyModule):
    """Keeps loss and gradient norm of each update."""

    def log_update(self, loss: float, norm: torch.Tensor, entropy: float) -> None:
        """See :class:`PolicyModule`."""
        self.noted.append((loss, float(norm)))


def named(prompt: Any) -> str:
    """Return the key of a prompt's completions."""
    return " ".join(map(str, prompt))


def trajectory(algorithm: str, *overrides: str) -> list[tuple[float, float]]:
    """Return loss and gradient norm of each of the ten updates, with the settings of ``conf/``."""
    with initialize_config_dir(str(CONF_DIR.resolve())):
        cfg = compose("train", [f"algorithm={algorithm}", *overrides])
    policy = load_policy("tiny").double()
    data = RolloutDataModule(
        policy,
        FewProblems(),
        ExactVerifier(),
        prompt_template="equals",
        engine=StoredEngineConfig(),
        evaluation=EvaluationConfig(problems=1),
        sync_check=SyncCheck(prompts=0),
        problems_per_rollout=PROBLEMS,
        completions_per_problem=SAMPLES,
        max_generation_rounds=1,
        max_new_tokens=MAX_NEW_TOKENS,
        updates_per_rollout=UPDATES,
    )
    objective, optimizer = build(cfg.algorithm, "algorithm"), build(cfg.optimizer, "optimizer")
    module = Noted(policy, objective, optimizer=optimizer)
    module.noted = []
    if module.critic is not None:
        # Random numbers of torch may differ between processors in the last bit.
        inner = module.critic.double().inner.weight
        inner.data = (torch.arange(inner.numel()).view_as(inner) % 7 - 3).double() / 64
        module.critic.inner.bias.data.zero_()
    trainer = L.Trainer(
        max_epochs=ROLLOUTS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(module, data)
    return module.noted


def sampled() -> dict[str, list[list[int]]]:
    """Return what the policy answers to the problems of all rollouts."""
    policy = load_policy("tiny")
    engine = HFEngineConfig().build(policy.model, policy.tokenizer)
    engine.load_weights(policy.model.named_parameters(), 0)
    found = {}
    for index in range(ROLLOUTS * PROBLEMS):
        text = f"{FewProblems().problem(index, 0).text}="
        prompt = tuple(policy.tokenizer(text)["input_ids"])
        seeds = [completion_seed(0, "golden", 0, index, k) for k in range(SAMPLES)]
        (answers,) = engine.generate([prompt], Sampling(1.0, MAX_NEW_TOKENS), [seeds])
        found[named(prompt)] = [list(c.token_ids) for c in answers]
    return found


def main() -> None:
    torch.set_num_threads(1)
    made: dict[str, Any]
    if sys.argv[1] == "completions":
        path, made = COMPLETIONS, sampled()
    else:
        path, made = LOSSES, {name: trajectory(name) for name in ALGORITHMS}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in made.items())
    path.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
