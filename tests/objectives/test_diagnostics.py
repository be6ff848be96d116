"""The shared statistics, and that they add up."""

from __future__ import annotations

import math

import pytest
import torch

from nft_lightning.objectives import GRPO, NFT
from nft_lightning.objectives.diagnostics import quantile, ratio_sums, summarise
from tests.objectives.family import FAMILY, evaluate

SHARED = {
    "ratio_right_mean",
    "ratio_wrong_mean",
    *(f"ratio_{side}_{q}" for side in ("right", "wrong") for q in ("p10", "p50", "p90")),
    "negative_clamped_fraction",
    "clipped_high_fraction",
    "clipped_low_fraction",
    "effective_sample_fraction",
    "kl_old_new",
    "wrong_gradient_fraction",
}


def data(rows=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, 6, generator=generator, dtype=torch.float64)
    moved = old + 0.3 * torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    mask = torch.arange(6)[None] < torch.randint(1, 7, (rows, 1), generator=generator)
    return moved.requires_grad_(), old, mask, (torch.arange(rows) % 2).double(), torch.zeros(rows)


@pytest.mark.parametrize("name", FAMILY)
def test_every_algorithm_logs_the_same_names(name):
    assert evaluate(FAMILY[name], *data()).metrics.keys() >= SHARED


def test_they_are_what_they_say():
    logprobs, old, mask, rewards, ids = data(40)
    out = NFT()(logprobs, old, mask, rewards, ids)
    ratio, right = (logprobs - old).exp().detach(), rewards[:, None] > 0
    for side, where in (("right", mask & right), ("wrong", mask & ~right)):
        inside = ratio[where]
        assert out.metrics[f"ratio_{side}_mean"] == pytest.approx(float(inside.mean()))
        for name, p in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
            exact = float(inside.quantile(p, interpolation="lower"))
            assert out.metrics[f"ratio_{side}_{name}"] == pytest.approx(exact, rel=0.03)
    inside = ratio[mask]
    expected = float(inside.sum() ** 2 / (len(inside) * (inside**2).sum()))
    assert out.metrics["effective_sample_fraction"] == pytest.approx(expected)
    (slope,) = torch.autograd.grad(out.loss, logprobs)
    share = float((slope.abs() * ~right).sum() / slope.abs().sum())
    assert out.metrics["wrong_gradient_fraction"] == pytest.approx(share)
    clamped = (1 - 0.5 * ratio) / 0.5 < 1
    assert out.metrics["negative_clamped_fraction"] == pytest.approx(
        float((clamped & mask & ~right).sum() / (mask & ~right).sum())
    )


def test_the_gradient_is_shared_evenly_on_policy():
    logprobs = torch.full((8, 2), -1.0, requires_grad=True)
    rewards = (torch.arange(8) < 2).float()
    for objective in (NFT(), GRPO()):
        out = objective(logprobs, logprobs.detach(), torch.ones(8, 2), rewards, torch.zeros(8))
        assert out.metrics["wrong_gradient_fraction"] == pytest.approx(0.5, abs=1e-6)


def test_sums_of_parts_are_the_sums_of_the_whole():
    logprobs, old, mask, rewards, _ = data(40)
    log_ratio, right = (logprobs - old).detach(), rewards > 0
    whole = ratio_sums(log_ratio, mask, right)
    cut = [ratio_sums(log_ratio[i : i + 7], mask[i : i + 7], right[i : i + 7]) for i in range(0, 40, 7)]
    for name, total in whole.items():
        added = torch.stack([part[name] for part in cut]).sum(0)
        assert torch.allclose(added, total)
        assert summarise(name, added) == pytest.approx(summarise(name, total))


def test_quantiles_of_nothing_and_of_a_ratio_of_one():
    counts = torch.zeros(401)
    assert math.isnan(quantile(counts, 0.5))
    counts[200] = 3
    assert quantile(counts, 0.1) == quantile(counts, 0.9) == 1.0
