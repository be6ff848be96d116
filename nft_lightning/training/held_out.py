"""Held-out problems: how they are answered, and what an evaluation measures on the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nft_lightning.distributed.ranks import gather_or_raise, own_part
from nft_lightning.engines.base import completion_seed
from nft_lightning.rollouts.collector import Collector
from nft_lightning.stats.majority import majority_at_k
from nft_lightning.training.config import EvaluationConfig
from nft_lightning.types import Group, Problem, Sampling


def evaluation_sampling(config: EvaluationConfig, training: Sampling) -> Sampling:
    """Return how answers to held-out problems are drawn; they end where training's end."""
    return replace(
        training,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens or training.max_new_tokens,
        top_p=config.top_p,
        top_k=config.top_k,
    )


class HeldOut:
    """The problems that a run is evaluated by; every evaluation draws with the same seeds.

    Args:
        problems: those that can be asked.
        count: completions per problem.
        sampling: how they are drawn.
        seed: the run's.
    """

    def __init__(self, problems: Sequence[Problem], count: int, sampling: Sampling, seed: int) -> None:
        self.problems, self.count = problems, count
        self.sampling, self.seed = sampling, seed

    def __len__(self) -> int:
        return len(self.problems)

    def answers(self, collector: Collector, indices: Sequence[int]) -> list[Group]:
        """Return scored answers to the problems of ``indices``; all ranks fail together."""
        seeds = [
            [completion_seed(self.seed, "eval", 0, i, k) for k in range(self.count)] for i in indices
        ]
        problems = [self.problems[i] for i in indices]
        phases = ("evaluate", "evaluate")
        return own_part(
            gather_or_raise(lambda: collector.answer(problems, self.sampling, seeds, phases))
        )


def count_answers(groups: Sequence[Group], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each group [G] its right answers, its samples, and whether ``k`` of them vote right."""
    right = torch.tensor([sum(v.correct for v in g.verdicts) for g in groups], dtype=torch.long)
    samples = torch.tensor([len(g.verdicts) for g in groups], dtype=torch.long)
    voted = torch.tensor([majority_at_k(g.verdicts, k) for g in groups])
    return right, samples, voted


def length_means(groups: Sequence[Group]) -> tuple[dict[str, float], int]:
    """Return metrics of the lengths, means over completions, and the number of completions."""
    completions = [c for g in groups for c in g.completions]
    count = max(1, len(completions))
    means = {
        "eval/response_length_mean_tokens": sum(len(c.token_ids) for c in completions) / count,
        "eval/truncated_fraction": sum(c.truncated for c in completions) / count,
    }
    return means, count
