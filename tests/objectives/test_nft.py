from __future__ import annotations

import pytest
import torch

from nft_lightning.errors import UserError
from nft_lightning.objectives import DAPO, GRPO, NFT, RFT
from nft_lightning.objectives.base import Outcomes
from nft_lightning.objectives.nft import straight_through_max
from tests.objectives.family import FAMILY, evaluate

ALL = list(FAMILY.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [3.0, 1.0, 0.7, 0.0, -0.001, -5.0, -300.0])
def test_straight_through_maximum(dtype, value):
    x = torch.tensor(value, dtype=dtype, requires_grad=True)
    y = straight_through_max(x, 1.0)
    assert y.item() == max(x.item(), 1.0)
    y.backward()
    assert x.grad.item() == 1.0


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shift", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("right", [1, 7])
def test_finite_at_extremes(name, dtype, shift, right):
    """r_q at 1/K and (K-1)/K, one-token and empty completions, whole rows masked."""
    logprobs = torch.full((8, 3), -1.0, dtype=dtype, requires_grad=True)
    old = torch.full((8, 3), -1.0 - shift, dtype=dtype)
    old[::3] = -1.0
    mask = torch.tensor(
        [[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1], [0] * 3]
    )
    rewards = (torch.arange(8) < right).float()
    out = evaluate(FAMILY[name], logprobs, old, mask, rewards, torch.zeros(8))
    assert torch.isfinite(out.loss)
    assert all(v == v for k, v in out.metrics.items() if not k.startswith("ratio_"))
    (grad,) = torch.autograd.grad(out.loss, logprobs)
    assert torch.isfinite(grad).all()
    assert (grad[mask == 0] == 0).all()


@pytest.mark.parametrize("name", FAMILY)
def test_nothing_left_to_learn_from_is_no_error(name):
    logprobs = torch.full((4, 2), -1.0, requires_grad=True)
    for mask, rewards in (
        (torch.zeros(4, 2), torch.tensor([1.0, 0, 1, 0])),
        (torch.ones(4, 2), torch.ones(4)),
    ):
        out = evaluate(FAMILY[name], logprobs, logprobs.detach(), mask, rewards, torch.zeros(4))
        (grad,) = torch.autograd.grad(out.loss, logprobs)
        assert torch.isfinite(out.loss)
        assert torch.isfinite(grad).all()


def test_the_loss_is_the_mean_over_all_unmasked_tokens():
    logprobs, old = torch.zeros(2, 2), torch.full((2, 2), -0.1)
    mask = torch.tensor([[1, 1], [1, 0]])
    out = NFT(prompt_weight="one")(logprobs, old, mask, torch.tensor([1.0, 0.0]), torch.zeros(2))
    assert out.token_loss.shape == (2, 2)
    assert out.loss.item() == pytest.approx((out.token_loss * mask).sum().item() / 3)
    assert all(isinstance(v, float) for v in out.metrics.values())


def test_group_ids_need_not_be_sorted_or_adjacent():
    logprobs = torch.randn(6, 2, dtype=torch.float64)
    rewards, ids = torch.tensor([1.0, 0, 0, 1, 1, 0]), torch.tensor([7, 7, 7, -2, -2, -2])
    order = torch.tensor([3, 0, 4, 1, 5, 2])
    old, mask = logprobs - 0.1, torch.ones(6, 2)
    for objective in ALL:
        straight = evaluate(objective, logprobs, old, mask, rewards, ids).loss
        mixed = evaluate(objective, logprobs[order], old[order], mask, rewards[order], ids[order]).loss
        assert straight.item() == pytest.approx(mixed.item(), abs=1e-12)


def test_uniform_groups_leave_nft_and_weigh_nothing():
    logprobs = torch.randn(4, 2, requires_grad=True)
    rewards, ids = torch.tensor([1.0, 1, 1, 0]), torch.tensor([0, 0, 1, 1])
    out = NFT()(logprobs, logprobs.detach(), torch.ones(4, 2), rewards, ids)
    (grad,) = torch.autograd.grad(out.loss, logprobs)
    assert (grad[:2] == 0).all()
    assert (grad[2:].abs() > 0).all()
    alone = NFT()(logprobs[2:], logprobs[2:].detach(), torch.ones(2, 2), rewards[2:], ids[2:])
    assert out.loss.item() == pytest.approx(alone.loss.item())


def test_overlong_answers_lose_reward_in_dapo():
    outcomes = Outcomes(
        torch.tensor([1.0, 1.0, 0.0]), torch.zeros(3), torch.tensor([80, 90, 100]), max_new_tokens=100
    )
    assert DAPO().length_penalty(outcomes).tolist() == pytest.approx([0.0, -0.5, -1.0])
    assert GRPO().length_penalty(outcomes).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: NFT(prompt_weight="log_odds"), "algorithm.prompt_weight"),
        (lambda: NFT(negative_floor=0.0), "algorithm.negative_floor"),
        (lambda: NFT(negative_weight=-1.0), "algorithm.negative_weight"),
        (lambda: NFT(drop_uniform_groups=False), "algorithm.drop_uniform_groups"),
        (lambda: NFT(reduction="mean"), "algorithm.reduction"),
        (lambda: RFT(negative_weight=1.0), "algorithm.negative_weight"),
        (lambda: GRPO(clip_low=0.0), "algorithm.clip_low"),
        (lambda: DAPO(overlong_buffer_fraction=1.0), "algorithm.overlong_buffer_fraction"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, field):
    with pytest.raises(UserError, match=field):
        make()


def test_rewards_that_are_not_binary_are_refused():
    x = torch.zeros(2, 1)
    with pytest.raises(UserError, match="not binary"):
        NFT()(x, x, torch.ones(2, 1), torch.tensor([1.0, -1.0]), torch.zeros(2))


def test_shapes_that_disagree_are_refused():
    x = torch.zeros(2, 3)
    with pytest.raises(UserError, match="group_ids"):
        GRPO()(x, x, torch.ones(2, 3), torch.zeros(3), torch.zeros(2))
    with pytest.raises(UserError, match="differ in shape"):
        GRPO()(x, x[:, :2], torch.ones(2, 3), torch.zeros(2), torch.zeros(2))
