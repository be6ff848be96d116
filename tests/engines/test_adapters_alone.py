"""LoRA adapters that travel without the weights below them: real vLLM adds their product itself."""

from __future__ import annotations

import csv
import gc

import pytest
import torch

from nft_lightning.app.preflight import check_lora
from nft_lightning.assets import tiny_policy_path
from nft_lightning.engines.adapters import merged
from nft_lightning.engines.adapters_alone import (
    adapted_layers,
    adapter_shapes,
    adapter_tensors,
    base_tensors,
    name_of,
    room_for,
)
from nft_lightning.engines.base import SyncError
from nft_lightning.engines.vllm.engine import VLLMEngineConfig
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import HFModel, TinyModel, finish
from nft_lightning.policy.lora import adapted as planned
from nft_lightning.policy.lora import outside_decoder, without_weights
from nft_lightning.policy.policy import Policy
from nft_lightning.rollouts.sync_check import SyncCheck
from tests.architectures.samples import largest_gap, written
from tests.architectures.table import ARCHITECTURES, TEMPERATURE, made
from tests.end_to_end.rank_runs import run_here
from tests.engines.test_adapters import PROBE, adapted, states

pytest.importorskip("peft")
vllm = pytest.mark.vllm
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@torch.no_grad()
def step(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 3}}])
def test_the_product_of_what_is_sent_is_what_a_merge_adds(options):
    model = adapted(**options)
    sent = dict(adapter_tensors(model))
    assert {name: tensor.shape for name, tensor in sent.items()} == adapter_shapes(model)
    frozen = dict(base_tensors(model))
    assert frozen.keys() == dict(TinyModel().load(1.0).model.named_parameters()).keys()
    for name, layer in adapted_layers(model):
        product = sent[name_of(name, "lora_B")] @ sent[name_of(name, "lora_A")]
        expected = merged(layer.base_layer.weight, layer)
        assert torch.allclose(frozen[name] + product, expected, atol=1e-6), name


def test_adapters_that_are_merged_or_off_are_refused():
    model = adapted()
    model.merge_adapter()
    with pytest.raises(SyncError, match="neither merged nor off"):
        list(adapter_tensors(model))
    model.unmerge_adapter()
    with model.disable_adapter(), pytest.raises(SyncError, match="neither merged nor off"):
        list(adapter_tensors(model))


def test_weights_that_train_beside_the_adapters_are_refused():
    with pytest.raises(SyncError, match=r"'lm_head\.weight' trains beside the adapters"):
        list(base_tensors(adapted(modules_to_save=["lm_head"])))


def test_a_rank_gets_the_next_room_of_vllms():
    assert [room_for(rank) for rank in (1, 2, 8, 9, 300, 512)] == [1, 8, 8, 16, 320, 512]
    with pytest.raises(UserError, match=r"policy\.lora_rank=513 is more than vLLM has room for"):
        room_for(513)


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_layers_outside_the_decoder_are_refused(name):
    pytest.importorskip("vllm")
    engine, plan = VLLMEngineConfig(adapters="alone"), PolicyConfig(lora_rank=4, lora_targets=name)
    with pytest.raises(UserError, match=rf"{name}', which.*: name layers: {','.join(LINEAR)}\.$"):
        check_lora(TinyModel(), engine, plan)
    check_lora(TinyModel(), engine, PolicyConfig(lora_rank=4, lora_targets=",".join(LINEAR)))


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("qwen3_moe", r"which is no linear layer: name layers: q_proj,k_proj,v_proj,o_proj\."),
        ("falcon_h1", r"name layers: gate_proj,up_proj,down_proj,in_proj,q_proj,k_proj,v_proj,o_proj\."),
    ],
)
def test_all_linear_where_it_does_not_fit_names_what_does(architecture, words):
    config = ARCHITECTURES[architecture].config()
    with pytest.raises(UserError, match=words) as refused:
        planned(without_weights(config, False), 4, 8, "all-linear")
    named = str(refused.value).rpartition("name layers: ")[2].rstrip(".")
    model = planned(without_weights(config, False), 4, 8, named)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert outside_decoder(model) is None


def test_the_option_is_refused_where_it_has_no_effect_or_is_not_built():
    from nft_lightning.engines.vllm_server.config import VLLMServerConfig

    with pytest.raises(UserError, match="is not built for servers: use merged, or rollout=vllm"):
        VLLMServerConfig(adapters="alone")
    pytest.importorskip("vllm")
    with pytest.raises(UserError, match="use merged or alone"):
        VLLMEngineConfig(adapters="both")
    engine = VLLMEngineConfig(adapters="alone")
    with pytest.raises(UserError, match=r"no effect without LoRA: set policy\.lora_rank=16"):
        check_lora(TinyModel(), engine, PolicyConfig())
    with pytest.raises(UserError, match=r"policy\.lora_rank=600 is more"):
        check_lora(TinyModel(), engine, PolicyConfig(lora_rank=600))
    check_lora(TinyModel(), engine, PolicyConfig(lora_rank=16))


@vllm
@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("gpt2", "does not fit GPT2LMHeadModel, which vLLM does not adapt"),
        ("qwen3_moe", "without a GPU, vLLM adapts no model with experts"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="what CPUs cannot do")
def test_a_model_that_vllm_does_not_adapt_is_refused_by_name(architecture, words):
    pytest.importorskip("vllm")
    config = ARCHITECTURES[architecture].config()
    config.architectures = [ARCHITECTURES[architecture].vllm]
    with pytest.raises(UserError, match=f"{words}: use merged"):
        VLLMEngineConfig(adapters="alone").check_model(config, torch.float32)


@pytest.fixture
def start():
    """Build an engine that is gone when the test ends: the next one would lose its groups to it."""
    pytest.importorskip("vllm")
    built = []

    def build(policy, **options):
        config = VLLMEngineConfig(max_num_seqs=16, adapters="alone", **options)
        built.append(config.build(policy.model, policy.tokenizer))
        return built[0]

    yield build
    for engine in built:
        engine.llm.llm_engine.engine_core.shutdown()
        del engine.llm
    gc.collect()


@vllm
def test_the_engine_follows_adapters_that_come_without_weights(start):
    policy = Policy(adapted(target_modules=LINEAR), TinyModel().load(1.0).tokenizer, 1.0)
    old = Policy(adapted(target_modules=LINEAR), policy.tokenizer, 1.0)
    engine = start(policy)
    matrices = sum(p.nbytes for n, p in policy.model.named_parameters() if "lora_" in n)
    everything = sum(tensor.nbytes for _, tensor in full_tensors(policy.model))
    moved = []
    for version in range(4):
        if version:
            step(policy.model, version)
        before = states(policy.model)
        moved.append(engine.load_weights(engine.stream(policy.model), version).bytes)
        assert SyncCheck().check(engine, policy, PROBE, version) < 1e-4
        assert all(torch.equal(before[name], p) for name, p in policy.model.named_parameters())
    assert moved == [everything + matrices, matrices, matrices, matrices]
    assert matrices < everything / 20
    with pytest.raises(SyncError, match="does not hold policy version 3"):
        SyncCheck().check(engine, old, PROBE, 3)
    # What is short or strange is found before anything is written, and the version is gone.
    sent = list(engine.stream(policy.model))
    with pytest.raises(SyncError, match="1 of 56 tensors missing"):
        engine.load_weights(sent[1:], 4)
    assert engine.policy_version == -1
    with pytest.raises(SyncError, match="the engine has no tensor 'model"):
        engine.load_weights(full_tensors(policy.model), 4)
    engine.load_weights(sent, 4)
    assert SyncCheck().check(engine, policy, PROBE, 4) < 1e-4
    engine.layers = {name: f"{layer}_of_another" for name, layer in engine.layers.items()}
    with pytest.raises(SyncError, match=r"vLLM has no layer 'model.*_of_another' to adapt"):
        engine.load_weights(sent, 5)


@vllm
@pytest.mark.parametrize(
    ("architecture", "targets"),
    [("qwen2", "q_proj,down_proj"), ("gemma3", "all-linear"), ("gpt_neox", "all-linear")],
)
def test_architectures(architecture, targets, start):
    policy = finish(made(architecture), TinyModel().load(1.0).tokenizer, TEMPERATURE)
    policy.model = planned(policy.model, 3, 12, targets).eval()
    engine = start(policy)
    for version in range(3):
        if version:
            step(policy.model, version)
        engine.load_weights(engine.stream(policy.model), version)
        assert largest_gap(policy, *written(engine)) < 5e-5


def column(run, name):
    with open(run / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


@vllm
@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_a_run_sends_adapters_alone(tmp_path, quantize):
    pytest.importorskip("vllm")
    if quantize != "none":
        pytest.importorskip("bitsandbytes")
    model = ["model=hf", f"model.path={tiny_policy_path('tiny')}", "optimizer.learning_rate=5e-3"]
    words = [*model, f"policy.quantize={quantize}", "policy.lora_rank=8", "trainer.max_epochs=2"]
    engine = ["logger=csv", "rollout=vllm", "rollout.engine.adapters=alone"]
    run_here(tmp_path, "run", [*words, *engine])
    found = column(tmp_path / "run", "sync/bytes")
    policy = HFModel(str(tiny_policy_path("tiny"))).load(1.0)
    everything = sum(p.nbytes for p in policy.model.parameters())
    assert 0 < max(found[1:]) < everything / 4
    assert column(tmp_path / "run", "sync/merge_rounding") == []
