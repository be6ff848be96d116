"""SAPO, DPPO, LUSPO, GMPO, VESPO, AsymRE and DRO against their papers' formulas, to 1e-10."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nft_lightning.errors import UserError
from nft_lightning.objectives import DPPO, DRO, GMPO, GRPO, GSPO, LUSPO, SAPO, VESPO, AsymRE
from nft_lightning.objectives.gates import binary_divergence
from tests.objectives.test_coefficients import K, coefficients, near

HERE = "SAPO DPPO LUSPO GMPO VESPO AsymRE DRO"
rights = st.integers(1, K - 1)
log_ratios = st.floats(-3, 3)


def both(right: int) -> tuple[float, float]:
    """GRPO's advantage of a right and of a wrong answer."""
    r = right / K
    return math.sqrt((1 - r) / r), -math.sqrt(r / (1 - r))


@settings(max_examples=80, deadline=None)
@given(right=rights, log_ratio=log_ratios, tau=st.sampled_from([0.5, 1.0, 1.05, 3.0]))
def test_sapo(right, log_ratio, tau):
    ratio = math.exp(log_ratio)
    found = coefficients(SAPO(temperature_positive=tau, temperature_negative=2 * tau), right, ratio)
    for c, advantage, temperature in zip(found, both(right), (tau, 2 * tau), strict=True):
        # 4 p (1 - p) is a squared hyperbolic secant.
        gate = 1 / math.cosh(temperature * (ratio - 1) / 2) ** 2
        assert c == near(gate * ratio * advantage)


@settings(max_examples=80, deadline=None)
@given(right=rights, log_ratio=st.floats(-3, 0.99), limit=st.sampled_from([0.02, 0.15, 0.3]))
@pytest.mark.parametrize("kind", ["tv", "kl"])
def test_dppo(kind, right, log_ratio, limit):
    ratio, old = math.exp(log_ratio), math.exp(-1)
    new = ratio * old
    if kind == "tv":
        apart = abs(new - old)
    else:
        apart = old * math.log(old / new) + (1 - old) * math.log((1 - old) / (1 - new))
    assume(abs(apart - limit) > 1e-9)
    positive, negative = coefficients(
        DPPO(divergence=kind, limit_low=limit, limit_high=limit), right, ratio
    )
    up, down = both(right)
    assert positive == near(up * ratio * (ratio <= 1 or apart <= limit))
    assert negative == near(down * ratio * (ratio >= 1 or apart <= limit))


def test_dppo_bounds_likely_tokens_and_lets_unlikely_ones_go():
    """A probability from 0.001 to 0.01 is a ratio of 10, and from 0.5 to 0.7 one of 1.4."""
    rewards, ids, mask = torch.tensor([1.0, 1.0, 0.0]), torch.zeros(3), torch.ones(3, 1)
    old = torch.tensor([[0.001], [0.5], [0.5]]).log()
    new = torch.tensor([[0.01], [0.7], [0.5]]).log().requires_grad_()
    slopes = [
        torch.autograd.grad(objective(new, old, mask, rewards, ids).loss, new)[0][:2, 0].tolist()
        for objective in (DPPO(), GRPO(clip_high=0.5))
    ]
    assert [s != 0 for s in slopes[0]] == [True, False]
    assert [s != 0 for s in slopes[1]] == [False, True]


def test_divergences_at_certainty_are_finite():
    for old, new in ((0.0, 0.0), (0.0, -1e-9), (-1e-9, 0.0), (0.0, -50.0), (-50.0, 0.0)):
        for kind in ("tv", "kl"):
            found = binary_divergence(torch.tensor(old), torch.tensor(new), kind)
            assert -1e-6 <= found < 100


def row_slopes(objective, log_ratios: list[list[float]], rewards: list[float]) -> torch.Tensor:
    """Coefficients [B, T] of rows of T tokens, weights of sequence_mean undone."""
    moved = torch.tensor(log_ratios, dtype=torch.float64).requires_grad_()
    old = torch.zeros_like(moved)
    out = objective(moved, old, torch.ones_like(moved), torch.tensor(rewards), torch.zeros(len(rewards)))
    return -torch.autograd.grad(out.loss, moved)[0] * moved.numel()


@settings(max_examples=60, deadline=None)
@given(right=rights, log_ratio=log_ratios)
def test_one_token_sequences(right, log_ratio):
    assume(min(abs(log_ratio - bound) for bound in (0.4, -0.3, 0.0025, -0.002)) > 1e-9)
    ratio = math.exp(log_ratio)
    up, down = both(right)
    positive, negative = coefficients(GMPO(log_clip_low=0.3, log_clip_high=0.4), right, ratio)
    assert positive == near(up * ratio * (log_ratio < 0.4))
    assert negative == near(down * ratio * (log_ratio > -0.3))
    found = coefficients(VESPO(power_negative=2.5), right, ratio)
    weights = (ratio**2 * math.exp(3 * (1 - ratio)), ratio**2.5 * math.exp(2 * (1 - ratio)))
    assert found == near((up * weights[0], down * weights[1]))
    assert coefficients(LUSPO(), right, ratio) == coefficients(
        GSPO(clip_low=2e-3, clip_high=2.5e-3), right, ratio
    )


def test_gmpo_clips_tokens_before_the_mean():
    rows = [[0.1, 0.9, -0.7], [0.2, 0.9, -0.7]]
    found = row_slopes(GMPO(reduction="sequence_mean"), rows, [1.0, 0.0])
    right, wrong = math.exp((0.1 + 0.4 - 0.7) / 3), math.exp((0.2 + 0.9 - 0.4) / 3)
    assert found[0].tolist() == pytest.approx([right, 0, right])
    assert found[1].tolist() == pytest.approx([-wrong, -wrong, 0])


def test_vespo_weighs_by_the_product_of_the_ratios():
    found = row_slopes(VESPO(), [[0.1, 0.2], [-0.1, 0.05]], [1.0, 0.0])
    s, w = math.exp(0.3), math.exp(-0.05)
    assert found[0].tolist() == pytest.approx([s**2 * math.exp(3 * (1 - s))] * 2)
    assert found[1].tolist() == pytest.approx([-(w**3) * math.exp(2 * (1 - w))] * 2)


def test_luspo_weighs_tokens_of_rows_alike():
    """GSPO's mean over sequences gives tokens of a long row less; LUSPO's does not."""
    logprobs = torch.full((2, 4), -1.0, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    rewards, ids = torch.tensor([1.0, 0.0]), torch.zeros(2)
    for cls, long, short in ((GSPO, 1 / 8, 1 / 2), (LUSPO, 1 / 2, 1 / 2)):
        out = cls(reduction="sequence_mean")(logprobs, logprobs.detach(), mask, rewards, ids)
        (slope,) = torch.autograd.grad(out.loss, logprobs)
        assert slope[0].tolist() == pytest.approx([-long] * 4)
        assert slope[1].tolist() == pytest.approx([short, 0, 0, 0])


@settings(max_examples=60, deadline=None)
@given(right=rights, log_ratio=log_ratios, beta=st.sampled_from([0.05, 0.5]))
def test_asymre_and_dro(right, log_ratio, beta):
    r, ratio = right / K, math.exp(log_ratio)
    assert coefficients(AsymRE(), right, ratio) == near((1.1 - r, 0.1 - r))
    for level in ("token", "sequence"):
        found = coefficients(DRO(beta=beta, ratio_level=level), right, ratio)
        assert found == near((1 - r - beta * log_ratio, -r - beta * log_ratio))


def test_asymre_learns_from_groups_that_are_all_right_or_all_wrong():
    found = row_slopes(AsymRE(baseline_shift=-0.25), [[0.0], [0.0]], [0.0, 0.0])
    assert found.tolist() == [[0.25], [0.25]]


def test_dro_holds_the_tokens_or_the_sequence():
    rows = [[0.3, -0.1], [0.0, 0.0]]
    token = row_slopes(DRO(beta=1.0, ratio_level="token"), rows, [1.0, 0.0])
    assert token[0].tolist() == pytest.approx([0.5 - 0.3, 0.5 + 0.1])
    whole = row_slopes(DRO(beta=1.0), rows, [1.0, 0.0])
    assert whole[0].tolist() == pytest.approx([0.5 - 0.2] * 2)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: SAPO(temperature_positive=0.0), "temperature_positive"),
        (lambda: SAPO(dual_clip=3.0), "dual_clip"),
        (lambda: DPPO(divergence="js"), "divergence"),
        (lambda: DPPO(limit_low=0.0), "limit_low"),
        (lambda: GMPO(log_clip_high=-0.4), "log_clip_high"),
        (lambda: VESPO(decay_negative=math.inf), "decay_negative"),
        (lambda: AsymRE(baseline_shift=math.nan), "baseline_shift"),
        (lambda: DRO(beta=0.0), "beta"),
        (lambda: DRO(ratio_level="word"), "ratio_level"),
        (lambda: DRO(importance_ratio=True), "importance_ratio"),
    ],
)
def test_settings_without_sense_are_refused(make, field):
    with pytest.raises(UserError, match=f"algorithm.{field}"):
        make()
