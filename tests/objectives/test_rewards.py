"""Rewards that are equal up to rounding, that are all wrong, or that lie between right and wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from nft_lightning.errors import UserError
from nft_lightning.objectives import GRPO, NFT, ContinuousNFT, DrGRPO, MaxRL, Outcomes
from nft_lightning.objectives.tensors import varied_groups
from tests.objectives.family import FAMILY

# AsymRE's baseline lies below the mean, so that equal rewards teach too.
GROUPED = [
    name
    for name, objective in FAMILY.items()
    if objective.advantage_key and objective.required_inputs.group_size > 1 and name != "asymre"
]


def advantages(objective, *groups, dtype=torch.float32):
    rewards = torch.tensor([r for group in groups for r in group], dtype=dtype)
    ids = torch.tensor([i for i, group in enumerate(groups) for _ in group])
    return objective.prepare(Outcomes(rewards, ids, torch.ones(len(ids)))).values["advantage"].tolist()


def test_maxrl_divides_by_the_mean():
    found = advantages(MaxRL(), [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1])
    assert found == pytest.approx([3, -1, -1, -1, 1, 1, -1, -1, *[0] * 8])


def test_maxrl_computes_no_group_that_is_all_wrong():
    outcomes = Outcomes(torch.tensor([0.0, 0, 1, 0]), torch.tensor([0, 0, 1, 1]), torch.ones(4))
    assert MaxRL().signal(outcomes).zero_gradient.tolist() == [True, True, False, False]


def test_a_penalty_that_leaves_no_mean_leaves_no_advantage():
    outcomes = Outcomes(torch.tensor([1.0, 0.0]), torch.zeros(2), torch.tensor([10, 10]), 10)
    made = MaxRL(overlong_buffer_fraction=0.5, overlong_penalty=1.0).prepare(outcomes)
    assert made.values["advantage"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["grpo", "dapo", "gspo", "cispo", "sapo", "vespo"])
def test_the_sample_deviation_is_larger(name):
    group = [1.0, 0, 0, 1, 1, 0, 0, 0.5]
    sample = advantages(replace(FAMILY[name], std="sample"), group)
    deviation = float(torch.tensor(group).std())
    assert sample == pytest.approx([(r - 0.4375) / deviation for r in group], rel=1e-6)
    population = advantages(FAMILY[name], group)
    assert sample == pytest.approx([a * math.sqrt(7 / 8) for a in population], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_other_reward_among_equal_ones(dtype):
    found = advantages(GRPO(), [0] + [0.95] * 7, dtype=dtype)
    assert found == pytest.approx([-math.sqrt(7), *[1 / math.sqrt(7)] * 7], rel=1e-6)


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("group", [[0.95] * 8, [0.1] * 7 + [0.1 + 1e-9], [1.0] * 7 + [1.00001]])
def test_rewards_that_differ_by_rounding_teach_nothing(name, group):
    assert max(map(abs, advantages(FAMILY[name], group))) < 1e-4
    ids = torch.zeros(len(group))
    assert not varied_groups(torch.tensor(group), ids).any()
    assert varied_groups(torch.tensor([*group[:7], 0.0]), ids).all()


def slope(objective, rewards, ratios=None):
    """The coefficient of each one-token answer, the mean over answers undone: [K]."""
    rewards = torch.tensor(rewards, dtype=torch.float64)
    old = torch.full((len(rewards), 1), -1.0, dtype=torch.float64)
    ratio = (
        torch.ones_like(old) if ratios is None else torch.tensor(ratios, dtype=torch.float64)[:, None]
    )
    moved = (old + ratio.log()).requires_grad_()
    out = objective(moved, old, torch.ones(len(rewards), 1), rewards, torch.zeros(len(rewards)))
    return -torch.autograd.grad(out.loss, moved)[0][:, 0] * len(rewards)


def test_rewards_of_0_and_1_are_nft():
    for ratios in (None, [0.5, 1.3, 0.9, 1.1]):
        for options in ({}, {"prompt_weight": "odds", "negative_floor": 0.1, "negative_weight": 0.5}):
            ours = slope(ContinuousNFT(**options), [1, 0, 0, 1], ratios)
            assert torch.equal(ours, slope(NFT(**options), [1, 0, 0, 1], ratios))


def test_on_policy_continuous_nft_is_dr_grpo_and_maxrl():
    rewards = [0.9, 0.2, 0.0, 1.0, 0.35]
    for weight, other in (("one_minus_accuracy", DrGRPO()), ("odds", MaxRL())):
        ours = slope(ContinuousNFT(prompt_weight=weight), rewards)
        assert torch.allclose(ours, slope(other, rewards), rtol=0, atol=1e-10)
    ours = slope(ContinuousNFT(prompt_weight="sqrt_odds"), rewards)
    assert not torch.allclose(ours, slope(GRPO(), rewards), rtol=0, atol=1e-2)


def test_the_optimum_is_the_policy_reweighted_by_reward():
    """At R = r_i / r, Bayes' rule, every answer's coefficient is 0."""
    rewards = [0.9, 0.2, 0.7, 0.4]
    ratios = [r / 0.55 for r in rewards]
    objective = ContinuousNFT(prompt_weight="one", negative_floor=1e-9)
    assert slope(objective, rewards, ratios).abs().max() < 1e-12
    assert slope(objective, rewards).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_groups_that_are_all_right_or_all_wrong_up_to_rounding_are_left_out(dtype):
    groups = [[1, 1.00001], [1.0, 1 - 1e-7], [0.0, 1e-7], [0.5, 0.5 + 1e-8], [0.9, 1.00001]]
    rewards = torch.tensor(groups, dtype=dtype).flatten()
    ids = torch.arange(5).repeat_interleave(2)
    made = ContinuousNFT(prompt_weight="odds").prepare(Outcomes(rewards, ids, torch.ones(10)))
    assert made.keep.tolist() == [False] * 8 + [True] * 2
    assert made.values["prompt_accuracy"][8:].tolist() == pytest.approx([0.95] * 2)
    assert all(torch.isfinite(v).all() for v in made.values.values())
    seven = torch.tensor([0] + [0.95] * 7, dtype=dtype)
    made = ContinuousNFT().prepare(Outcomes(seven, torch.zeros(8), torch.ones(8)))
    assert made.keep.all()
    assert made.values["prompt_weight"].tolist() == pytest.approx([1 - 0.95 * 7 / 8] * 8)


@pytest.mark.parametrize("reward", [-1.0, 1.01, float("nan"), float("inf")])
def test_rewards_outside_0_and_1_are_refused(reward):
    with pytest.raises(UserError, match=rf"rewards={reward} is outside \[0, 1\].*scale"):
        slope(ContinuousNFT(), [0.5, reward])


@pytest.mark.parametrize("reward", [1 + 1e-6, -1e-6])
def test_rounding_does_not_end_a_run(reward):
    nearest = float(reward > 0.5)
    assert slope(ContinuousNFT(), [reward, 0.5]) == pytest.approx(slope(ContinuousNFT(), [nearest, 0.5]))


def test_rewards_in_between_are_refused_by_nft():
    with pytest.raises(UserError, match="not binary"):
        slope(NFT(), [0.5, 1.0])
