from __future__ import annotations

import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM

from nft_lightning.batching.layout import Row, token_batch
from nft_lightning.errors import UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import TinyModel
from nft_lightning.policy.policy import Policy
from nft_lightning.types import Completion, Signal
from tests.tiny_shape import tiny_shape

SHAPE = tiny_shape(47, head_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2)


def gemma():
    torch.manual_seed(0)
    config = Gemma2Config(**SHAPE, final_logit_softcapping=0.5, attn_implementation="eager")
    return Policy(Gemma2ForCausalLM(config), None, 0.8)


def cohere():
    torch.manual_seed(0)
    return Policy(CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.25)), None)


def batch(count=3):
    rows = [
        Row((3, 4, 5), Completion(tuple(range(6, 9 + i)), "", (0.0,) * (3 + i), False, 0), 1.0, i, i)
        for i in range(count)
    ]
    return token_batch(rows, Signal({}, torch.ones(count)), 0)


@pytest.mark.parametrize("make", [gemma, lambda: TinyModel().load(0.7)])
@pytest.mark.parametrize("entropy", [True, False])
def test_both_ways_are_one(make, entropy):
    results = []
    for way in ("plain", "fused"):
        policy = make().eval()
        policy.fused = PolicyConfig(way).fused(policy.model, policy.temperature)
        assert (policy.fused is None) == (way == "plain")
        out = policy(batch(), entropy_gradient=entropy, hidden=True)
        (out.logprobs.sum() + (out.entropy.sum() if entropy else 0)).backward()
        gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
        results.append((out.logprobs, out.entropy, out.hidden, gradient))
        assert out.entropy.requires_grad == entropy
    for i, (one, other) in enumerate(zip(*results, strict=True)):
        assert one.shape == other.shape
        # The plain entropy is a difference of two large numbers.
        assert (one - other).norm() <= (1e-5 if i == 1 else 2e-6 * one.norm())


def test_an_empty_micro_batch_adds_nothing():
    policy = gemma()
    policy.fused = PolicyConfig("fused").fused(policy.model, policy.temperature)
    policy(batch(0)).logprobs.sum().backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in policy.parameters() if p.grad is not None)


def test_a_head_that_scales_its_logits_is_seen():
    model = cohere().model
    with pytest.raises(UserError, match=r"policy\.logprobs='fused' does not fit CohereForCausalLM"):
        PolicyConfig("fused").fused(model, 1.0)
    model.config.vocab_size = 47
    assert PolicyConfig("auto").fused(model, 1.0) is None


def test_auto_looks_at_the_vocabulary(monkeypatch):
    model = gemma().model
    assert PolicyConfig().fused(model, 1.0) is None
    monkeypatch.setattr("nft_lightning.policy.head.LARGE_VOCABULARY", 47)
    assert PolicyConfig().fused(model, 1.0) is not None
    assert PolicyConfig().fused(cohere().model, 1.0) is None


def test_an_unknown_way_is_refused():
    with pytest.raises(UserError, match=r"policy\.logprobs='chunked' is not known"):
        PolicyConfig("chunked")
