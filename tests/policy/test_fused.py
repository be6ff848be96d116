from __future__ import annotations

import itertools

import pytest
import torch

from nft_lightning.policy import logprobs as fused
from nft_lightning.policy.logprobs import Head, fused_logprobs


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(fused, "TOKENS", 7)
    monkeypatch.setattr(fused, "VOCABULARY", 13)


def plain(hidden, weight, bias, targets, head):
    wide = torch.promote_types(hidden.dtype, torch.float32)
    logits = torch.nn.functional.linear(
        hidden.to(wide), weight.to(wide), None if bias is None else bias.to(wide)
    )
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    logprobs = (logits / head.temperature).log_softmax(-1)
    return logprobs.gather(1, targets[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(1)


def inputs(dtype, tokens=17, words=40, size=8, scale=1.0):
    torch.manual_seed(0)
    hidden, weight = torch.randn(tokens, size) * scale, torch.randn(words, size)
    bias, targets = torch.randn(words), torch.randint(0, words, (tokens,))
    made = [t.to(dtype).requires_grad_() for t in (hidden, weight, bias)]
    return *made, targets


HEADS = [Head(t, c) for t, c in itertools.product((1.0, 0.6), (None, 3.0))]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_gradients_by_finite_differences(head, with_bias):
    hidden, weight, bias, targets = inputs(torch.float64, tokens=9, words=20, size=3)
    if with_bias:
        assert torch.autograd.gradcheck(
            lambda h, w, b: fused_logprobs(h, w, b, targets, head), (hidden, weight, bias)
        )
        return
    assert torch.autograd.gradcheck(
        lambda h, w: fused_logprobs(h, w, None, targets, head), (hidden, weight)
    )


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("entropy", [True, False])
def test_as_the_plain_way(head, dtype, entropy):
    *leaves, targets = inputs(dtype)
    results = []
    for way in (plain, fused_logprobs):
        logprobs, spread = way(*leaves, targets, head)
        loss = (logprobs * torch.linspace(-1, 1, len(targets))).sum()
        loss = loss + 0.3 * (spread * spread.detach()).sum() if entropy else loss
        results.append((logprobs, spread, *torch.autograd.grad(loss, leaves)))
    for i, (one, other) in enumerate(zip(*results, strict=True)):
        assert one.dtype == other.dtype
        close = 2e-2 if dtype == torch.bfloat16 and i >= 2 else 1e-6
        assert (one - other).norm() <= close * one.norm()


def test_logits_that_overflow_an_exponential_do_not():
    hidden, weight, bias, targets = inputs(torch.float32, scale=300.0)
    logprobs, entropy = fused_logprobs(hidden, weight, bias, targets, Head())
    expected = plain(hidden, weight, bias, targets, Head())
    assert torch.allclose(logprobs, expected[0], rtol=1e-5)
    found = torch.autograd.grad(logprobs.sum() + entropy.sum(), [weight, hidden])
    assert torch.isfinite(torch.cat(found)).all()


def test_frozen_parts_get_no_gradient():
    hidden, weight, _, targets = inputs(torch.float32)
    logprobs, _ = fused_logprobs(hidden, weight.detach(), None, targets, Head())
    logprobs.sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("head", HEADS)
def test_autocast_around_the_backward_pass_changes_nothing(head):
    found = []
    for inside in (False, True):
        *leaves, targets = inputs(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            logprobs, entropy = fused_logprobs(*leaves, targets, head)
            loss = logprobs.sum() + 0.1 * entropy.sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            loss.backward()
        assert logprobs.dtype == torch.float32
        found.append([leaf.grad for leaf in leaves])
    for outside, within in zip(*found, strict=True):
        assert torch.equal(outside, within)
