"""Rewards that are equal up to rounding, that are all wrong, or that lie between right and wrong."""

from __future__ import annotations

import math

import pytest
import torch

from nft_lightning.objectives import GRPO, MaxRL, Outcomes
from nft_lightning.objectives.tensors import varied_groups
from tests.objectives.family import FAMILY

GROUPED = [n for n, o in FAMILY.items() if o.advantage_key and o.required_inputs.group_size > 1]


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
