"""LoRA adapters in a weight sync: the engine gets W + scaling B A, the policy keeps both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nft_lightning.engines.base import SyncError
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.engines.weight_sync import Manifest, full_tensors
from nft_lightning.policy.loading import TinyModel
from nft_lightning.policy.policy import Policy
from nft_lightning.rollouts.sync_check import SyncCheck
from tests.engines.shared import served_engine, shared_vllm_engine

peft = pytest.importorskip("peft")
PROBE = [tuple(range(5, 77))]


def adapted(base=None, **options):
    """A tiny policy with adapters that do something."""
    base = base or TinyModel().load(1.0).model
    chosen = {"target_modules": ["q_proj", "down_proj"], "r": 4, "lora_alpha": 12, **options}
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **chosen))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def states(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["lm_head"]}, {"use_rslora": True}])
def test_what_is_sent_is_what_peft_merges(options):
    model = adapted(**options)
    before, sent = states(model), {n: t.clone() for n, t in full_tensors(model)}
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert sent.keys() == dict(TinyModel().load(1.0).model.named_parameters()).keys()
    expected = dict(model.merge_and_unload().named_parameters())
    assert sent.keys() == expected.keys()
    for name, tensor in sent.items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name


def test_merged_and_disabled_adapters_are_not_added_again():
    model = adapted()
    sent = dict(full_tensors(model))
    model.merge_adapter()
    again = dict(full_tensors(model))
    assert all(torch.allclose(sent[name], again[name], atol=1e-6) for name in sent)
    model.unmerge_adapter()
    base = dict(TinyModel().load(1.0).model.named_parameters())
    with model.disable_adapter():
        plain = {n: t.clone() for n, t in full_tensors(model)}
    assert all(torch.allclose(plain[name], base[name], atol=1e-6) for name in base)


def test_the_manifest_has_the_checkpoints_names():
    assert Manifest.of(adapted()).shapes == Manifest.of(TinyModel().load(1.0).model).shapes


def hf(policy):
    return HFEngine(policy.model, policy.tokenizer)


def vllm(policy):
    return shared_vllm_engine()


@pytest.mark.parametrize(
    "make",
    [
        hf,
        pytest.param(vllm, marks=pytest.mark.vllm),
        pytest.param(served_engine, marks=pytest.mark.vllm),
    ],
)
def test_every_engine_plays_the_adapted_policy(make):
    tokenizer = TinyModel().load(1.0).tokenizer
    policy = Policy(adapted(), tokenizer, 1.0)
    before = states(policy.model)
    engine = make(policy)
    engine.load_weights(full_tensors(policy.model), 1)
    assert SyncCheck().check(engine, policy, PROBE, 1) < 1e-3
    assert all(torch.equal(before[name], p) for name, p in policy.model.named_parameters())
    with pytest.raises(SyncError, match="does not hold policy version 1"):
        SyncCheck().check(engine, TinyModel().load(1.0), PROBE, 1)


def test_the_hf_engine_refuses_another_models_sums():
    tokenizer = TinyModel().load(1.0).tokenizer
    with pytest.raises(SyncError, match="is not this model's own"):
        HFEngine(adapted(), tokenizer).load_weights(full_tensors(TinyModel().load(1.0).model), 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"use_dora": True}, "not plain LoRA"), ({"lora_bias": True}, "not plain LoRA")],
)
def test_other_kinds_are_refused(options, words):
    if "lora_bias" in options:
        options |= {"target_modules": ["q_proj"]}
    with pytest.raises(SyncError, match=words):
        list(full_tensors(adapted(**options)))


def test_other_adapters_are_refused():
    base = TinyModel().load(1.0).model
    config = peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    )
    with pytest.raises(SyncError, match="IA3 adapters cannot be merged"):
        list(full_tensors(peft.get_peft_model(base, config)))


def test_a_tied_weight_with_an_adapter_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(self.embed(x))

    model = peft.get_peft_model(Tied(), peft.LoraConfig(target_modules=["head"]))
    with pytest.raises(SyncError, match="shares its weight"):
        list(full_tensors(model))
