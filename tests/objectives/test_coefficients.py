"""Coefficients on grad log pi against closed forms, over ratios and accuracies, to 1e-10.

arXiv 2505.18116, Props. 4.1 and 4.2, for NFT and the clipped family; each paper's formula elsewhere.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nft_lightning.objectives import (
    CISPO,
    DAPO,
    DPO,
    GPG,
    GRPO,
    GSPO,
    NFT,
    NSR,
    PPO,
    PSR,
    REINFORCE,
    RFT,
    RLOO,
    SFT,
    TOPR,
    ContinuousNFT,
    DrGRPO,
    InfoNCA,
    MaxRL,
    REINFORCEPlusPlusBaseline,
    WeightedREINFORCE,
)
from tests.objectives.family import FAMILY, evaluate

K = 8


def coefficients(objective, right_count: int, ratio: float, value: float = 0.0) -> tuple[float, float]:
    """c in ``grad L = -sum c grad log pi`` for a right and for a wrong token, weights undone.

    Only the row that is looked at has moved; the others are still at ratio 1.
    """
    found = []
    for row in (0, K - 1):
        old = torch.full((K, 1), -1.0, dtype=torch.float64)
        moved = old.clone()
        moved[row] += math.log(ratio)
        moved.requires_grad_()
        rewards = torch.tensor([1.0] * right_count + [0.0] * (K - right_count), dtype=torch.float64)
        ids = torch.zeros(K, dtype=torch.long)
        out = evaluate(objective, moved, old, torch.ones(K, 1), rewards, ids, value)
        (grad,) = torch.autograd.grad(out.loss, moved)
        rows = int((objective.prepare(outcomes(rewards, ids)).keep).sum())
        found.append(-float(grad[row]) * rows)
    return found[0], found[1]


def outcomes(rewards, ids):
    from nft_lightning.objectives import Outcomes

    return Outcomes(rewards, ids, torch.ones(len(rewards)))


def near(value: float):
    return pytest.approx(value, rel=1e-10, abs=1e-10)


OMEGA = {
    "one": lambda r: 1.0,
    "one_minus_accuracy": lambda r: 1 - r,
    "sqrt_odds": lambda r: math.sqrt((1 - r) / r),
    "odds": lambda r: (1 - r) / r,
}
rights = st.integers(1, K - 1)
log_ratios = st.floats(-4, 4)


@settings(max_examples=150, deadline=None)
@given(
    right=rights,
    log_ratio=log_ratios,
    floor=st.sampled_from([0.01, 0.5, 1.0]),
    weight=st.sampled_from(sorted(OMEGA)),
    negative_weight=st.sampled_from([0.0, 0.5, 1.0]),
    level=st.sampled_from(["token", "sequence"]),
)
def test_nft(right, log_ratio, floor, weight, negative_weight, level):
    r, ratio = right / K, math.exp(log_ratio)
    omega = OMEGA[weight](r)
    implicit = max((1 - r * ratio) / (1 - r), floor)
    for cls in (NFT, ContinuousNFT):
        objective = cls(
            prompt_weight=weight,
            negative_floor=floor,
            negative_weight=negative_weight,
            ratio_level=level,
        )
        positive, negative = coefficients(objective, right, ratio)
        assert positive == near(omega)
        assert negative == near(-omega * negative_weight * r / (1 - r) * ratio / implicit)


@settings(max_examples=100, deadline=None)
@given(right=rights, log_ratio=st.floats(-2, 2))
def test_clipped_family(right, log_ratio):
    r, ratio = right / K, math.exp(log_ratio)
    std = math.sqrt(r * (1 - r))
    for objective, scale in (
        (GRPO(), std),
        (DrGRPO(), 1.0),
        (MaxRL(), r),
        (DAPO(), std),
        (GSPO(), std),
        (REINFORCEPlusPlusBaseline(), std),
    ):
        positive, negative = coefficients(objective, right, ratio)
        high, low = 1 + objective.clip_high, 1 - objective.clip_low
        assert positive == near((1 - r) / scale * ratio * (ratio < high))
        assert negative == near(-r / scale * ratio * (ratio > low))


@settings(max_examples=100, deadline=None)
@given(right=rights, log_ratio=log_ratios)
def test_score_function_family(right, log_ratio):
    r, ratio = right / K, math.exp(log_ratio)
    std, factor = math.sqrt(r * (1 - r)), K / (K - 1)
    clipped = min(max(ratio, 0.0), 5.0)
    expected = {
        REINFORCE(): (ratio, 0.0),
        REINFORCE(importance_ratio=False): (1.0, 0.0),
        REINFORCE(baseline="batch"): ((1 - r) * ratio, -r * ratio),
        RLOO(): (factor * (1 - r) * ratio, -factor * r * ratio),
        GPG(): (1 - r, -r),
        CISPO(): ((1 - r) / std * clipped, -r / std * clipped),
        CISPO(clip_low=0.2, clip_high=0.2): (
            (1 - r) / std * min(max(ratio, 0.8), 1.2),
            -r / std * min(max(ratio, 0.8), 1.2),
        ),
    }
    for objective, (right_one, wrong_one) in expected.items():
        positive, negative = coefficients(objective, right, ratio)
        assert positive == near(right_one)
        assert negative == near(wrong_one)


@settings(max_examples=100, deadline=None)
@given(
    right=rights,
    log_ratio=log_ratios,
    weight=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_signed_family(right, log_ratio, weight):
    ratio = math.exp(log_ratio)
    up, down = ratio * (ratio < 1.2), ratio * (ratio > 0.8)
    expected = {
        RFT(): (1.0, 0.0),
        TOPR(): (1.0, -min(ratio, 1.0)),
        TOPR(negative_weight=weight): (1.0, -weight * min(ratio, 1.0)),
        PSR(): (up, 0.0),
        NSR(): (0.0, -down),
        WeightedREINFORCE(positive_weight=weight): (weight * up, -down),
    }
    for objective, (right_one, wrong_one) in expected.items():
        positive, negative = coefficients(objective, right, ratio)
        assert positive == near(right_one)
        assert negative == near(wrong_one)
    assert coefficients(SFT(), right, ratio)[0] == near(1.0)


@settings(max_examples=60, deadline=None)
@given(right=rights, log_ratio=log_ratios, beta=st.sampled_from([0.02, 0.1, 1.0]))
def test_preferences(right, log_ratio, beta):
    sigmoid = 1 / (1 + math.exp(beta * log_ratio))
    positive, negative = coefficients(DPO(beta=beta), right, math.exp(log_ratio))
    assert positive == near(beta * K / right * sigmoid)
    assert negative == near(-beta * K / (K - right) * (1 - sigmoid))
    share = math.exp(beta * log_ratio) / (math.exp(beta * log_ratio) + K - 1)
    positive, negative = coefficients(InfoNCA(beta=beta), right, math.exp(log_ratio))
    assert positive == near(beta * K * (1 / right - share))
    assert negative == near(-beta * K * share)


@settings(max_examples=60, deadline=None)
@given(right=rights, log_ratio=st.floats(-2, 2), value=st.floats(-0.5, 1.5))
def test_ppo(right, log_ratio, value):
    ratio = math.exp(log_ratio)
    positive, negative = coefficients(PPO(), right, ratio, value)
    for found, advantage in ((positive, 1 - value), (negative, -value)):
        outside = ratio > 1.2 if advantage > 0 else ratio < 0.8
        assert found == near(0.0 if outside else advantage * ratio)


HERE = """
    NFT ContinuousNFT RFT SFT GRPO DrGRPO MaxRL DAPO GSPO CISPO GPG REINFORCE RLOO
    REINFORCEPlusPlusBaseline PPO DPO InfoNCA TOPR PSR NSR WeightedREINFORCE
"""


@pytest.mark.parametrize("name", FAMILY)
def test_the_algorithms_of_conf_are_all_covered(name):
    from tests.objectives import test_distillation, test_gates

    assert type(FAMILY[name]).__name__ in f"{HERE} {test_gates.HERE} {test_distillation.HERE}".split()


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
