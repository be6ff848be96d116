"""Generalised advantages, the value loss and its statistics."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

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


def by_a_loop(values, mask, reward, gamma, gae_lambda):
    """The advantages, token by token from the last to the first."""
    made = torch.zeros_like(values)
    ahead, following, pending = torch.zeros_like(reward), torch.zeros_like(reward), reward
    for t in range(values.shape[1] - 1, -1, -1):
        here = mask[:, t]
        advantage = pending + gamma * following - values[:, t] + gamma * gae_lambda * ahead
        made[:, t] = torch.where(here, advantage, made[:, t])
        ahead = torch.where(here, advantage, ahead)
        following = torch.where(here, values[:, t], following)
        pending = torch.where(here, torch.zeros_like(pending), pending)
    return made


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 1.0), (1.0, 0.95), (0.99, 0.9), (0.0, 1.0)])
@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 65, 1500])
def test_long_answers_are_as_by_a_loop(tokens, gamma, gae_lambda):
    generator = torch.Generator().manual_seed(tokens)
    values = torch.randn(4, tokens, generator=generator)
    mask = torch.rand(4, tokens, generator=generator) < torch.tensor([[1.0], [0.7], [0.1], [0.0]])
    reward = torch.tensor([1.0, 0.0, 1.0, 1.0])
    expected = by_a_loop(values.double(), mask, reward.double(), gamma, gae_lambda)
    wide, _ = advantages(values.double(), mask, reward.double(), gamma, gae_lambda)
    assert (wide - expected).abs().max() < 1e-11
    narrow, _ = advantages(values, mask, reward, gamma, gae_lambda)
    looped = by_a_loop(values, mask, reward, gamma, gae_lambda)
    rounding = float((looped - expected).abs().max())
    assert float((narrow - expected).abs().max()) <= 2 * rounding + 1e-6


class Operators(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_sixty_four_times_the_tokens_need_six_rounds_more():
    counts = []
    for tokens in (16, 32, 1024):
        values = torch.rand(2, tokens)
        with Operators() as operators:
            advantages(values, values > 0.1, torch.ones(2), 0.99, 0.95)
        counts.append(operators.count)
    round_size = counts[1] - counts[0]
    assert counts[2] == counts[0] + 6 * round_size


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
