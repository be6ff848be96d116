"""Generalised advantages, the value loss and its statistics."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nft_lightning.objectives import PPO
from nft_lightning.objectives.ppo import advantages


def by_definition(values, reward, gamma, gae_lambda):
    """A_t = sum_l (gamma lambda)^l delta_{t+l}, for one row without masked places."""
    n = len(values)
    rewards = [0.0] * (n - 1) + [reward]
    following = [*values[1:], 0.0]
    delta = [r + gamma * f - v for r, f, v in zip(rewards, following, values, strict=True)]
    return [sum((gamma * gae_lambda) ** i * d for i, d in enumerate(delta[t:])) for t in range(n)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
    reward=st.sampled_from([0.0, 1.0]),
)
def test_advantages_are_their_definition_whatever_is_masked(seed, gamma, gae_lambda, reward):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 9, generator=generator, dtype=torch.float64)
    mask = torch.rand(3, 9, generator=generator) < 0.6
    made, returns = advantages(values, mask, torch.full((3,), reward).double(), gamma, gae_lambda)
    for row in range(3):
        expected = by_definition(values[row][mask[row]].tolist(), reward, gamma, gae_lambda)
        assert made[row][mask[row]].tolist() == pytest.approx(expected, abs=1e-12)
    assert (made[~mask] == 0).all()
    assert (returns[~mask] == 0).all()
    assert torch.allclose(returns[mask], (made + values)[mask])


def test_without_discount_the_return_is_the_reward():
    values, mask = torch.rand(2, 5), torch.ones(2, 5).bool()
    _, returns = advantages(values, mask, torch.tensor([1.0, 0.0]), 1.0, 1.0)
    assert torch.allclose(returns, torch.tensor([[1.0], [0.0]]).expand(2, 5), atol=1e-6)


def call(objective, values, old_values, rewards):
    logprobs = torch.full(values.shape, -1.0, dtype=values.dtype, requires_grad=True)
    out = objective(
        logprobs,
        logprobs.detach(),
        torch.ones(values.shape),
        rewards,
        torch.zeros(len(rewards)),
        values=values,
        old_values=old_values,
    )
    return out, torch.autograd.grad(out.loss, [logprobs, values])


def test_policy_and_critic_may_have_a_lambda_each():
    """Lambda 0 for the policy: one step's error; lambda 1 for the critic: the reward itself."""
    rewards = torch.tensor([1.0, 0.0], dtype=torch.float64)
    old = torch.tensor([[0.2, 0.6], [0.2, 0.6]], dtype=torch.float64)
    objective = PPO(gae_lambda=0.0, critic_gae_lambda=1.0)
    _, (policy, critic) = call(objective, old.clone().requires_grad_(), old, rewards)
    assert (-4 * policy).tolist() == [pytest.approx([0.4, 0.4]), pytest.approx([0.4, -0.6])]
    assert (4 * critic).tolist() == [pytest.approx([-0.8, -0.4]), pytest.approx([0.2, 0.6])]
    _, (_, coupled) = call(PPO(gae_lambda=0.0), old.clone().requires_grad_(), old, rewards)
    assert (4 * coupled).tolist() == [pytest.approx([-0.4, -0.4]), pytest.approx([-0.4, 0.6])]


def test_the_value_loss_is_clipped_around_the_rollouts_value():
    rewards = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    old = torch.tensor([[0.2], [0.2], [0.2]], dtype=torch.float64)
    values = torch.tensor([[0.3], [0.5], [0.9]], dtype=torch.float64, requires_grad=True)
    out, (_, slope) = call(PPO(value_clip=0.2), values, old, rewards)
    # Row 1 has moved further than the clip towards its return: no gradient is left.
    assert slope[:, 0].tolist() == pytest.approx([-0.7 / 3, 0.0, 0.9 / 3], abs=1e-12)
    assert out.metrics["value_loss"] == pytest.approx((0.7**2 + 0.6**2 + 0.9**2) / 6)


def test_explained_variance():
    rewards = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    for values, expected in (
        (rewards[:, None].clone(), 1.0),
        (torch.full((4, 1), 0.5, dtype=torch.float64), 0.0),
        (1 - rewards[:, None], -3.0),
    ):
        out, _ = call(PPO(), values.requires_grad_(), values.detach(), rewards)
        assert out.metrics["explained_variance"] == pytest.approx(expected, abs=1e-12)


def test_the_value_loss_does_not_reach_the_policy_gradient():
    rewards = torch.tensor([1.0, 0.0], dtype=torch.float64)
    old = torch.full((2, 1), 0.5, dtype=torch.float64)
    slopes = [call(PPO(), (old + move).requires_grad_(), old, rewards)[1][0] for move in (0.0, 0.1)]
    assert torch.equal(slopes[0], slopes[1])
    assert slopes[0][:, 0].tolist() == pytest.approx([-0.25, 0.25])
