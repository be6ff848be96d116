from __future__ import annotations

import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

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


class Products(TorchDispatchMode):
    """Notes the types of both factors, and of the result, of every product of matrices."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket
        if name in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            factors = [t for t in args if isinstance(t, torch.Tensor)][-2:]
            self.seen.append((*(t.dtype for t in factors), found.dtype))
        return found


TYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", TYPES)
def test_a_gpu_multiplies_the_factors_as_they_are(dtype):
    """Tensors without numbers stand for those of a GPU: the operation and its types are real."""
    with FakeTensorMode(), Products() as products:
        one = torch.empty(7, 8, dtype=dtype, device="cuda")
        other = torch.empty(8, 13, dtype=dtype, device="cuda")
        fused.add_product(fused.product(one, other), one, other)
    assert products.seen == [(dtype, dtype, torch.float32)] * 2


@pytest.mark.parametrize("dtype", TYPES)
def test_all_four_products_are_made_so(dtype, monkeypatch):
    """The logits twice, the gradient of the hidden states, and that of the weights."""
    asked = []

    def noted(one, other):
        asked.append((one.dtype, other.dtype))
        return False

    monkeypatch.setattr(fused, "multiplied_as_they_are", noted)
    hidden, weight, _, targets = inputs(dtype, tokens=7, words=13)
    with Products() as products:
        logprobs, _ = fused_logprobs(hidden, weight, None, targets, Head())
        torch.autograd.grad(logprobs.sum(), [hidden, weight])
    assert asked == [(dtype, dtype)] * 4
    assert len(products.seen) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_factors_cost_no_more_than_rounded_logits(dtype):
    """Against float64 on the same inputs; the usual way rounds the logits and their gradient."""
    *leaves, targets = inputs(dtype, tokens=64, words=300, size=32)
    weighed = torch.linspace(-1, 1, len(targets))

    def found(way, leaves):
        logprobs, entropy = way(*leaves, targets, Head())
        return logprobs, entropy, *torch.autograd.grad((logprobs * weighed.to(logprobs)).sum(), leaves)

    def usual(hidden, weight, bias, targets, head):
        logits = torch.nn.functional.linear(hidden, weight, bias).float()
        logprobs = logits.log_softmax(-1)
        return logprobs.gather(1, targets[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(1)

    exact = found(plain, [t.detach().double().requires_grad_() for t in leaves])
    ours, theirs = found(fused_logprobs, leaves), found(usual, leaves)
    for i, (right, one, other) in enumerate(zip(exact, ours, theirs, strict=True)):
        one, other, right = one.detach(), other.detach(), right.detach()
        error = float((one - right).norm() / right.norm())
        assert error <= float((other - right).norm() / right.norm())
        assert error < (1e-6 if i < 2 else float(torch.finfo(dtype).eps))
