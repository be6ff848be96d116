"""Identities between algorithms, in float64 to 1e-10, on a small transformer's parameters."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from nft_lightning.objectives import (
    CISPO,
    DAPO,
    DPO,
    DPPO,
    DRO,
    GMPO,
    GRPO,
    GSPO,
    NFT,
    REINFORCE,
    RFT,
    RLOO,
    SAPO,
    VESPO,
    DrGRPO,
    InfoNCA,
    MaxRL,
)
from nft_lightning.policy.policy import Policy
from nft_lightning.types import TokenBatch
from tests.tiny_shape import tiny_shape

K, LENGTHS = 8, (5, 1, 3, 7, 2, 6, 4, 7)
torch.manual_seed(0)
MODEL = LlamaForCausalLM(LlamaConfig(**tiny_shape(19, 16))).double()


def keep_float64(model: torch.nn.Module) -> None:
    """The library's norm computes in fp32, which would hide what is proved here."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ == "LlamaRMSNorm":
                norm = torch.nn.RMSNorm(child.weight.numel(), eps=1e-6, dtype=torch.float64)
                setattr(parent, name, norm)


keep_float64(MODEL)
POLICY = Policy(MODEL, None)
IDS = torch.randint(0, 19, (K, 10), generator=torch.Generator().manual_seed(1))
MASK = (torch.arange(9)[None] >= 2) & (torch.arange(9)[None] < 2 + torch.tensor(LENGTHS)[:, None])
GROUP = torch.zeros(K, dtype=torch.long)
BATCH = TokenBatch(IDS, torch.ones_like(IDS), MASK, MASK.double(), torch.zeros(K, 9), {})


def rewards(right: int) -> torch.Tensor:
    return (torch.arange(K) < right).double()


def gradient(objective, right: int, shift: torch.Tensor | float = 0.0, **more) -> torch.Tensor:
    """On every parameter of the transformer; ``shift`` is log R."""
    logprobs = POLICY(BATCH).logprobs
    assert logprobs.dtype == torch.float64
    old = logprobs.detach() - shift
    out = objective(logprobs, old, MASK, rewards(right), GROUP, **more)
    grads = torch.autograd.grad(out.loss, list(MODEL.parameters()))
    return torch.cat([g.flatten() for g in grads])


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    assert b.norm() > 1e-6
    return bool((a - b).abs().max() <= 1e-10 * max(1.0, float(b.abs().max())))


REDUCTIONS = ("token_mean", "sequence_mean", "constant", "sum_per_1000")


@pytest.mark.parametrize("right", range(1, K))
@pytest.mark.parametrize("floor", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_on_policy_nft_is_grpo_dr_grpo_and_maxrl(right, floor, level):
    for reduction in REDUCTIONS:
        common = {"reduction": reduction}
        kind = {"negative_floor": floor, "ratio_level": level, **common}
        nft = gradient(NFT(prompt_weight="sqrt_odds", **kind), right)
        grpo = gradient(GRPO(**common), right)
        assert same(nft, grpo)
        # The sample standard deviation is larger by sqrt(K / (K - 1)), so its GRPO is smaller.
        sample = math.sqrt((K - 1) / K) * nft
        deviation = torch.std(rewards(right))
        centred = gradient(DrGRPO(**common), right)
        assert same(centred / deviation, sample)
        assert same(gradient(NFT(**kind), right), centred)
        maxrl = gradient(MaxRL(**common), right)
        assert same(gradient(NFT(prompt_weight="odds", **kind), right), maxrl)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("cls", [CISPO, SAPO, DPPO, GSPO, GMPO, VESPO])
def test_on_policy_what_bounds_the_ratio_is_grpo(cls, reduction):
    assert same(gradient(cls(reduction=reduction), 3), gradient(GRPO(reduction=reduction), 3))
    shift = 0.3 * torch.sin(torch.arange(9.0, dtype=torch.float64))
    grpo = gradient(GRPO(reduction=reduction), 3, shift)
    assert not same(gradient(cls(reduction=reduction), 3, shift), grpo)


def test_on_policy_dro_is_dr_grpo():
    for level in ("token", "sequence"):
        assert same(gradient(DRO(ratio_level=level, beta=2.0), 3), gradient(DrGRPO(), 3))


def test_a_floor_above_one_breaks_the_identity():
    assert not same(gradient(NFT(prompt_weight="sqrt_odds", negative_floor=1.5), 3), gradient(GRPO(), 3))


def test_off_policy_they_part():
    shift = 0.1 * torch.sin(torch.arange(9.0, dtype=torch.float64))
    assert not same(gradient(NFT(prompt_weight="sqrt_odds"), 3, shift), gradient(GRPO(), 3, shift))
    assert not same(gradient(NFT(prompt_weight="odds"), 3, shift), gradient(MaxRL(), 3, shift))


seeds = st.integers(0, 1000)


def wobble(seed: int, size: float) -> torch.Tensor:
    return size * torch.randn(K, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=15, deadline=None)
@given(right=st.integers(1, K - 1), seed=seeds)
def test_off_policy_identities(right, seed):
    shift, small = wobble(seed, 0.5), wobble(seed, 0.02)
    rft = NFT(negative_weight=0.0, prompt_weight="one")
    assert same(gradient(rft, right, shift), gradient(RFT(), right, shift))
    assert same(gradient(DAPO(), right, small), gradient(GRPO(), right, small))
    rloo = gradient(RLOO(), right, shift)
    assert same(rloo, gradient(REINFORCE(baseline="batch"), right, shift) * K / (K - 1))
    advantage = rewards(right) - rewards(right).mean()
    assert same(gradient(RLOO(), right, small), gradient(DrGRPO(), right, small) * K / (K - 1))
    assert float(advantage.abs().max()) < 1
    # CISPO where nothing is clipped: REINFORCE with the group's mean and standard deviation.
    std = math.sqrt(right / K * (1 - right / K))
    plain = gradient(REINFORCE(baseline="batch"), right, shift) / std
    assert same(gradient(CISPO(clip_low=1.0, clip_high=1e6), right, shift), plain)


def test_where_dapo_clips_it_is_not_grpo():
    shift = torch.full((K, 9), math.log(1.25), dtype=torch.float64)
    assert not same(gradient(DAPO(), 3, shift), gradient(GRPO(), 3, shift))


@settings(max_examples=30, deadline=None)
@given(right=st.integers(1, K - 1), seed=seeds)
def test_one_token_gspo_is_grpo_and_sequence_nft_is_nft(right, seed):
    logprobs = torch.full((K, 1), -1.0, dtype=torch.float64, requires_grad=True)
    old = logprobs.detach() - wobble(seed, 0.5)[:, :1]
    mask = torch.ones(K, 1)

    def slope(objective):
        out = objective(logprobs, old, mask, rewards(right), GROUP)
        return torch.autograd.grad(out.loss, logprobs)[0]

    clip = {"clip_low": 0.2, "clip_high": 0.2}
    assert torch.allclose(slope(GSPO(**clip)), slope(GRPO()), rtol=0, atol=1e-10)
    assert torch.allclose(slope(NFT(ratio_level="sequence")), slope(NFT()), rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    seed=seeds,
    beta=st.floats(0.01, 2.0),
    sft=st.sampled_from([0.0, 0.3]),
    reduction=st.sampled_from(REDUCTIONS),
)
def test_infonca_of_two_is_dpo(seed, beta, sft, reduction):
    generator = torch.Generator().manual_seed(seed)
    logprobs = torch.randn(6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    old = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    mask = torch.arange(5)[None] < torch.randint(1, 6, (6, 1), generator=generator)
    reward = torch.tensor([1.0, 0, 0, 1, 1, 0])
    ids = torch.tensor([4, 4, 2, 2, 9, 9])
    found = []
    for cls in (DPO, InfoNCA):
        out = cls(beta=beta, sft_coefficient=sft, reduction=reduction)(logprobs, old, mask, reward, ids)
        found.append((out.loss, torch.autograd.grad(out.loss, logprobs)[0]))
    assert found[0][0].item() == pytest.approx(found[1][0].item(), abs=1e-10)
    assert torch.allclose(found[0][1], found[1][1], rtol=0, atol=1e-10)


def test_dpo_is_the_mean_over_pairs():
    logprobs = torch.randn(5, 3, dtype=torch.float64)
    old, mask = torch.randn(5, 3, dtype=torch.float64), torch.ones(5, 3)
    reward, ids = torch.tensor([1.0, 1, 0, 0, 0]), torch.zeros(5)
    d = 0.3 * (logprobs - old).sum(1)
    pairs = [-torch.nn.functional.logsigmoid(d[i] - d[j]) for i in (0, 1) for j in (2, 3, 4)]
    out = DPO(beta=0.3, reduction="sequence_mean")(logprobs, old, mask, reward, ids)
    assert out.loss.item() == pytest.approx(float(torch.stack(pairs).mean()), abs=1e-12)
    nca = InfoNCA(beta=0.3, reduction="sequence_mean")(logprobs, old, mask, reward, ids)
    assert nca.loss.item() == pytest.approx(-float(d.log_softmax(0)[:2].mean()), abs=1e-12)


def test_a_negative_half_alone_finds_the_positive_policy():
    """Theorem 3.1 on a tabular policy: total variation below 1e-4."""
    generator = torch.Generator().manual_seed(3)
    old = torch.softmax(torch.randn(4, 6, generator=generator, dtype=torch.float64), -1)
    right = torch.zeros(4, 6, dtype=torch.float64)
    for q, count in enumerate((1, 2, 3, 5)):
        right[q, torch.randperm(6, generator=generator)[:count]] = 1.0
    accuracy = (old * right).sum(-1, keepdim=True)
    positive, negative = old * right / accuracy, old * (1 - right) / (1 - accuracy)
    objective = NFT(prompt_weight="one", negative_floor=1e-9)
    logits = old.log().clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.2)
    signal = {
        "reward": torch.zeros(24),
        "prompt_accuracy": accuracy.expand(4, 6).flatten(),
        "prompt_weight": torch.ones(24, dtype=torch.float64),
    }

    def loss():
        # Every answer once, as a wrong one, weighted by its probability under pi-.
        logprobs = logits.log_softmax(-1).reshape(24, 1)
        mask = torch.ones(24, 1, dtype=torch.bool)
        made = objective.token_loss(logprobs, old.log().reshape(24, 1), mask, signal)
        return (made.loss[:, 0] * negative.flatten()).sum()

    before = (logits.softmax(-1) - positive).abs().sum(-1) / 2
    assert float(before.detach().min()) > 0.05
    for step in range(2000):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 2000)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    after = (logits.softmax(-1) - positive).abs().sum(-1) / 2
    assert float(after.max()) < 1e-4


def official(logprobs, old, mask, rewards, accuracy, epsilon, normalize):
    """The official code's loss, from section 1.4 of its description; [B, T] and [B] in."""
    delta = torch.clamp(logprobs - old, max=10)
    ratio = torch.exp(delta)
    rho = torch.clamp(accuracy, 0.02, 0.98)[:, None]
    x = (1 - rho * ratio) / (1 - rho)
    negative = -torch.log(x + (torch.clamp(x, min=epsilon) - x).detach())
    positive = -torch.log(ratio + (torch.clamp(ratio, min=0.0) - ratio).detach())
    correct = rewards[:, None]
    token = negative * (1 - correct) + positive * correct
    token = token * {0: 1.0, 1: 1 - rho, 2: torch.sqrt((1 - rho) / rho)}[normalize]
    return (token * mask).sum() / 1000


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    right=st.integers(1, 99),
    size=st.sampled_from([0.0, 0.1, 1.0, 8.0]),
    epsilon=st.sampled_from([0.5, 1.0]),
    normalize=st.sampled_from([0, 1, 2]),
)
def test_official_settings_give_the_official_numbers(seed, right, size, epsilon, normalize):
    generator = torch.Generator().manual_seed(seed)
    count = 100
    logprobs = -torch.rand(count, 4, generator=generator, dtype=torch.float64)
    old = logprobs - size * torch.randn(count, 4, generator=generator, dtype=torch.float64)
    mask = torch.arange(4)[None] < torch.randint(1, 5, (count, 1), generator=generator)
    reward = (torch.arange(count) < right).double()
    accuracy = torch.full((count,), right / count, dtype=torch.float64)
    objective = NFT(
        prompt_weight=("one", "one_minus_accuracy", "sqrt_odds")[normalize],
        negative_floor=epsilon,
        reduction="sum_per_1000",
        accuracy_clamp=(0.02, 0.98),
        clamp_right=True,
    )
    logprobs.requires_grad_()
    out = objective(logprobs, old, mask, reward, torch.zeros(count))
    expected = official(logprobs, old, mask, reward, accuracy, epsilon, normalize)
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    ours, theirs = (torch.autograd.grad(x, logprobs)[0] for x in (out.loss, expected))
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6)
