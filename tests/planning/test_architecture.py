"""Sizes and FLOPs from a config, against the real thing."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from nft_lightning.assets import tiny_policy_path
from nft_lightning.errors import UserError
from nft_lightning.planning.architecture import KNOWN_MODELS, architecture

# As the files of weights hold them.
PUBLISHED = {
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-Math-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-Math-7B": 7_615_616_512,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-4B": 4_022_468_096,
}
SMALL = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "vocab_size": 512}


@pytest.fixture(params=["qwen2", "qwen3", "llama"])
def folder(request, tmp_path):
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    config = AutoConfig.for_model(
        request.param, **SMALL, **heads, tie_word_embeddings=request.param == "qwen3"
    )
    config.save_pretrained(tmp_path)
    return tmp_path


def test_the_shipped_facts_have_the_published_sizes():
    assert set(json.loads(KNOWN_MODELS.read_text())) == set(PUBLISHED)
    assert {name: architecture(name).parameters for name in PUBLISHED} == PUBLISHED


def test_parameters_are_those_of_the_real_model(folder):
    found = architecture(str(folder))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.layer_parameters == sum(p.numel() for p in model.get_decoder().layers[0].parameters())


def test_the_tiny_policy():
    folder = tiny_policy_path("tiny")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert architecture(str(folder)).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("width", [32, 256])
def test_flops_are_those_that_torch_counts(folder, width):
    # The counter knows no fused attention of a CPU's.
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    ids = torch.zeros(2, width, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    planned = 3 * architecture(str(folder)).forward_flops(ids.numel(), width)
    assert planned == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_lora_parameters_are_those_of_peft(folder):
    peft = pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules="all-linear"))
    assert architecture(str(folder)).lora_parameters(8) == sum(
        p.numel() for p in adapted.parameters() if p.requires_grad
    )


def test_a_model_without_a_config_here(monkeypatch):
    with pytest.raises(UserError, match=r"model\.path='org/none' has no config on this machine: give"):
        architecture("org/none")


def test_experts_are_refused(tmp_path):
    AutoConfig.for_model(
        "mixtral", **SMALL, num_attention_heads=4, num_key_value_heads=2
    ).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is no dense decoder"):
        architecture(str(tmp_path))
