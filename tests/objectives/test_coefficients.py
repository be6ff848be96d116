"""Coefficients on grad log pi against the closed forms, arXiv 2505.18116, Props. 4.1 and 4.2."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nft_lightning.objectives import DAPO, GRPO, NFT, RFT, DrGRPO

K = 8


def coefficients(objective, right_count: int, ratio: float) -> tuple[float, float]:
    """c in ``grad L = -sum c grad log pi`` for a right and for a wrong token, weights undone."""
    old = torch.full((K, 1), -1.0, dtype=torch.float64)
    logprobs = (old + math.log(ratio)).requires_grad_()
    rewards = torch.tensor([1.0] * right_count + [0.0] * (K - right_count), dtype=torch.float64)
    out = objective(logprobs, old, torch.ones(K, 1), rewards, torch.zeros(K, dtype=torch.long))
    (grad,) = torch.autograd.grad(out.loss, logprobs)
    return -float(grad[0]) * K, -float(grad[-1]) * K


OMEGA = {
    "one": lambda r: 1.0,
    "one_minus_accuracy": lambda r: 1 - r,
    "sqrt_odds": lambda r: math.sqrt((1 - r) / r),
}


@settings(max_examples=150, deadline=None)
@given(
    right=st.integers(1, K - 1),
    log_ratio=st.floats(-4, 4),
    floor=st.sampled_from([0.01, 0.5, 1.0]),
    weight=st.sampled_from(sorted(OMEGA)),
    negative_weight=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_nft(right, log_ratio, floor, weight, negative_weight):
    r, ratio = right / K, math.exp(log_ratio)
    omega = OMEGA[weight](r)
    implicit = max((1 - r * ratio) / (1 - r), floor)
    objective = NFT(prompt_weight=weight, negative_floor=floor, negative_weight=negative_weight)
    positive, negative = coefficients(objective, right, ratio)
    assert positive == pytest.approx(omega, abs=1e-10)
    expected = -omega * negative_weight * r / (1 - r) * ratio / implicit
    assert negative == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(max_examples=100, deadline=None)
@given(right=st.integers(1, K - 1), log_ratio=st.floats(-2, 2))
def test_clipped_family(right, log_ratio):
    r, ratio = right / K, math.exp(log_ratio)
    std = math.sqrt(r * (1 - r))
    for objective, scale, high in ((GRPO(), std, 0.2), (DrGRPO(), 1.0, 0.2), (DAPO(), std, 0.28)):
        positive, negative = coefficients(objective, right, ratio)
        assert positive == pytest.approx((1 - r) / scale * ratio * (ratio < 1 + high), abs=1e-10)
        assert negative == pytest.approx(-r / scale * ratio * (ratio > 0.8), abs=1e-10)


def test_the_published_table():
    # r, R, epsilon -> negative coefficient with prompt weight one.
    for r, ratio, floor, expected in (
        (0.25, 1.2, 1.0, -0.4),
        (0.25, 3.6, 0.5, -2.4),
        (0.5, 2.0, 0.01, -200.0),
        (0.75, 0.5, 1.0, -0.6),
        (0.75, 2.0, 0.5, -12.0),
    ):
        _, negative = coefficients(NFT(prompt_weight="one", negative_floor=floor), round(r * K), ratio)
        assert negative == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("right", range(1, K))
def test_on_policy_identities(right):
    assert coefficients(NFT(prompt_weight="sqrt_odds"), right, 1.0) == pytest.approx(
        coefficients(GRPO(), right, 1.0), abs=1e-10
    )
    assert coefficients(NFT(), right, 1.0) == pytest.approx(
        coefficients(DrGRPO(), right, 1.0), abs=1e-10
    )
    assert coefficients(RFT(), right, 1.7) == pytest.approx((1.0, 0.0), abs=1e-10)
    assert coefficients(NFT(negative_weight=0.0, prompt_weight="one"), right, 1.7) == coefficients(
        RFT(), right, 1.7
    )
