"""How much of a LoRA update survives the type that an engine holds its weights in."""

from __future__ import annotations

import pytest
import torch

from nft_lightning.engines.adapters import Rounding
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.policy.loading import TinyModel

peft = pytest.importorskip("peft")


def adapted(size, dtype=torch.float32):
    model = TinyModel().load(1.0).model.to(dtype)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], r=4)
    model = peft.get_peft_model(model, config, autocast_adapter_dtype=True)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return model


def survived(model, dtype):
    rounding = Rounding(dtype)
    for _ in full_tensors(model, rounding):
        pass
    return rounding.survived()


def test_fp32_keeps_all_of_it():
    assert survived(adapted(1e-2), torch.float32) == pytest.approx(1, abs=1e-4)
    assert survived(adapted(0.0), torch.float32) == 1


def test_weights_in_bf16_lose_a_small_update_and_keep_a_large_one():
    assert survived(adapted(1e-6, torch.bfloat16), torch.bfloat16) < 0.2
    assert survived(adapted(1.0, torch.bfloat16), torch.bfloat16) == pytest.approx(1, abs=0.02)


def test_the_share_is_what_the_definition_says():
    base = torch.tensor([1.0, 1.0, 2.0], dtype=torch.bfloat16)
    delta = torch.tensor([0.5, 0.001, 0.0])
    weight = (base.float() + delta).to(torch.bfloat16)
    rounding = Rounding(None)
    rounding.add(base, delta, weight)
    assert rounding.survived() == pytest.approx(0.25 / (0.25 + 1e-6))


def test_no_adapters_no_share():
    assert survived(TinyModel().load(1.0).model, torch.bfloat16) is None
