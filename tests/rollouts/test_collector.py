"""What the collector tells the verifier, and what it makes of the verdicts."""

from __future__ import annotations

import math

from nft_lightning.common.timing import PhaseTimer
from nft_lightning.engines.base import Engine
from nft_lightning.problems.arithmetic import ArithmeticProblems
from nft_lightning.rollouts.collector import Collector
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.types import Completion, Verdict
from nft_lightning.verifiers.base import Verifier
from nft_lightning.verifiers.rewards import RewardRules
from nft_lightning.verifiers.simple import ExactVerifier


class Written(Engine):
    policy_version = 3

    def load_weights(self, named_tensors, version):
        raise NotImplementedError

    def replicas(self):
        return [self]

    def sleep(self):
        pass

    def generate(self, prompts, sampling, seeds):
        return [
            [Completion((1,), r"\boxed{5}", (0.0,), k == 1, 3) for k, _ in enumerate(group)]
            for group in seeds
        ]


def collect(verifier, drop_uniform=False):
    plan = RolloutConfig(problems_per_rollout=2, completions_per_problem=3, max_generation_rounds=1)
    collector = Collector(
        ArithmeticProblems(),
        Written(),
        verifier,
        verifier.rewards,
        lambda text: (1,),
        plan,
        PhaseTimer(),
    )
    return collector.collect(0, 0, 0, drop_uniform)[0]


class Scripted(Verifier):
    rewards = RewardRules()

    def __init__(self, verdicts):
        self.verdicts, self.truncated = verdicts, None

    def verify(self, completions, golds, truncated=None):
        self.truncated = truncated
        return self.verdicts * (len(completions) // len(self.verdicts))

    def close(self):
        pass


def test_the_verifier_learns_what_was_truncated():
    verifier = Scripted([Verdict("correct")])
    collect(verifier)
    assert verifier.truncated == [False, True, False] * 2
    strict = ExactVerifier(truncated="unparsable")
    assert collect(strict).metrics["verdict/unparsable_fraction"] == 2 / 6


def test_scores_are_the_rewards_and_parts_are_logged():
    verdicts = [
        Verdict("correct", score=1.1, parts={"a": 1.0, "b": 1.0}),
        Verdict("wrong", score=0.1, parts={"a": 0.0, "b": 1.0}),
        Verdict("wrong", score=0.0, parts={"a": 0.0, "b": 0.0}),
    ]
    rollout = collect(Scripted(verdicts), drop_uniform=True)
    assert [g.rewards for g in rollout.groups] == [(1.1, 0.1, 0.0)] * 2
    assert rollout.metrics["verdict/part_a_mean"] == 1 / 3
    assert rollout.metrics["verdict/part_b_mean"] == 2 / 3


def test_uniform_scores_teach_nothing_and_a_score_that_is_none_leaves_the_group_out():
    assert collect(Scripted([Verdict("correct", score=1.1)]), drop_uniform=True).groups == ()
    assert len(collect(Scripted([Verdict("correct", score=1.1)])).groups) == 2
    assert collect(Scripted([Verdict("error", score=math.nan)])).groups == ()
