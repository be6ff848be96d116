"""What stays in fp32 under autocast, and what autocast does once."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.policy.critic import ValueHead
from nft_lightning.policy.loading import TinyModel
from nft_lightning.types import Sampling


def mixed():
    """As Lightning's bf16-mixed."""
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)


def test_the_critic_is_fp32_under_autocast():
    head, hidden = ValueHead(16), torch.randn(2, 5, 16)
    torch.nn.init.normal_(head.outer.weight)
    expected = head(hidden)
    with mixed():
        values = head(hidden)
        assert torch.autocast("cpu", torch.bfloat16).fast_dtype == torch.bfloat16
    assert values.dtype == torch.float32
    assert torch.equal(values, expected)


class Casts(TorchDispatchMode):
    """Counts the casts of one weight to bf16."""

    def __init__(self, weight):
        super().__init__()
        self.place, self.count = weight.data_ptr(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() == self.place:
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tokens", [4, 12])
def test_a_rollout_casts_each_weight_once(tokens):
    policy = TinyModel("tiny_unsure").load(1.0)
    engine = HFEngine(policy.model, policy.tokenizer)
    engine.policy_version = 0
    weight = policy.model.model.layers[0].mlp.down_proj.weight
    prompts = [tuple(range(5, 12)), tuple(range(5, 9))]
    with mixed():
        with Casts(weight) as casts:
            groups = engine.generate(prompts, Sampling(1.0, tokens), [[1, 2], [3, 4]])
        assert not torch.is_autocast_cache_enabled()
        # No cast without a gradient is left behind for training.
        out = policy.model(torch.tensor([prompts[0]])).logits.float().sum()
    out.backward()
    assert casts.count == 1
    assert weight.grad is not None
    assert max(len(c.token_ids) for g in groups for c in g) > 1
