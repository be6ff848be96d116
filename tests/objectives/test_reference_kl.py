"""Estimators of KL(policy || reference): their values and gradients, over every word of a vocabulary."""

from __future__ import annotations

import pytest
import torch

from nft_lightning.objectives.options import reference_kl

WORDS = 7
generator = torch.Generator().manual_seed(0)
LOGITS, OLD, REFERENCE = torch.randn(3, WORDS, generator=generator, dtype=torch.float64)


def exact(logits):
    p = logits.log_softmax(0)
    return (p.exp() * (p - REFERENCE.log_softmax(0))).sum()


def other_way(logits):
    q = REFERENCE.log_softmax(0)
    return (q.exp() * (q - logits.log_softmax(0))).sum()


def expected(estimator: str, old) -> tuple[float, torch.Tensor]:
    """Value and gradient on the logits, in expectation over words that ``old`` samples."""
    logits = LOGITS.clone().requires_grad_()
    now, written = logits.log_softmax(0), old.log_softmax(0)
    ratio = (now - written).exp().detach()
    mean = (written.exp() * reference_kl(now, REFERENCE.log_softmax(0), estimator, ratio)).sum()
    return float(mean.detach()), torch.autograd.grad(mean, logits)[0]


def gradient(function) -> torch.Tensor:
    logits = LOGITS.clone().requires_grad_()
    return torch.autograd.grad(function(logits), logits)[0]


@pytest.mark.parametrize("estimator", ["k1", "k3", "k3_unbiased"])
def test_values_on_policy(estimator):
    assert expected(estimator, LOGITS)[0] == pytest.approx(float(exact(LOGITS)), abs=1e-12)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3_unbiased"])
def test_gradients_on_policy(estimator):
    found = expected(estimator, LOGITS)[1]
    assert torch.allclose(found, gradient(exact), rtol=0, atol=1e-12)


def test_the_plain_gradient_of_k3_is_that_of_the_other_divergence():
    found = expected("k3", LOGITS)[1]
    assert torch.allclose(found, gradient(other_way), rtol=0, atol=1e-12)
    assert not torch.allclose(found, gradient(exact), rtol=0, atol=1e-2)


def test_off_policy_only_the_weighted_one_is_right():
    value, found = expected("k3_unbiased", OLD)
    assert value == pytest.approx(float(exact(LOGITS)), abs=1e-12)
    assert torch.allclose(found, gradient(exact), rtol=0, atol=1e-12)
    for estimator in ("k1", "k2", "k3"):
        assert not torch.allclose(expected(estimator, OLD)[1], gradient(exact), rtol=0, atol=1e-2)
