"""Rollouts that are the same for every run: what the first one wrote, the others train on.

Strategies and precisions round differently, and one token drawn otherwise would be another rollout,
after which parameters cannot be compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from nft_lightning.engines.base import Prompt, completion_seed
from nft_lightning.engines.hf.engine import HFEngine, HFEngineConfig
from nft_lightning.types import Completion, Sampling

# The check after each weight sync asks the engine itself.
PROBE_SEEDS = {completion_seed(0, "probe", 0, i, 0) for i in range(64)}


@dataclass(frozen=True)
class StoredEngineConfig(HFEngineConfig):
    """``rollout=hf`` that makes ``file`` where there is none (one process), else answers from it."""

    file: str = "rollouts.json"

    def build(self, model: nn.Module, tokenizer: Any) -> StoredEngine:
        """The engine over the trainer's model."""
        return StoredEngine(model, tokenizer, self.max_rows, Path(self.file))


class StoredEngine(HFEngine):
    """Generates as ever, and gives what is stored for the same policy version and seed.

    ``agreement`` counts the completions that had a stored one, and those of them that were equal to it.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, max_rows: int, file: Path) -> None:
        super().__init__(model, tokenizer, max_rows)
        self.file, self.records = file, not file.exists()
        self.stored: dict[str, Any] = {} if self.records else json.loads(file.read_text())
        self.agreement = {"asked": 0, "equal": 0}

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """See :class:`nft_lightning.engines.base.Engine`."""
        own = super().generate(prompts, sampling, seeds)
        given = [
            [self.kept(seed, made) for seed, made in zip(group, completions, strict=True)]
            for group, completions in zip(seeds, own, strict=True)
        ]
        if self.records:
            self.file.write_text(json.dumps(self.stored))
        return given

    def kept(self, seed: int, made: Completion) -> Completion:
        """The stored completion in place of ``made``, where there is one."""
        key = f"{self.policy_version}/{seed}"
        if seed in PROBE_SEEDS:
            return made
        if self.records:
            self.stored[key] = [
                made.token_ids.tolist(),
                made.text,
                made.logprobs.tolist(),
                made.truncated,
            ]
        if self.records or key not in self.stored:
            return made
        ids, text, logprobs, truncated = self.stored[key]
        self.agreement["asked"] += 1
        self.agreement["equal"] += ids == made.token_ids.tolist()
        return replace(made, token_ids=ids, text=text, logprobs=logprobs, truncated=truncated)


def coin(completion: str, gold: str) -> bool:
    """A verdict that random weights get both ways."""
    return sum(map(ord, completion)) % 2 == 0
