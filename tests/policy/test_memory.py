"""Options that save memory: the same gradient, or only what is meant to train."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from nft_lightning.app.assemble import loaded
from nft_lightning.app.hardware import check_attention, check_started
from nft_lightning.app.parts import build_parts
from nft_lightning.app.preflight import check_machine
from nft_lightning.batching.layout import Row, token_batch
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.layers import decoder_layers
from nft_lightning.policy.loading import TinyModel
from nft_lightning.policy.precision import as_it_trains, cast_to_half
from nft_lightning.policy.reference import Frozen
from nft_lightning.policy.requirements import check_policy
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import built_optimizer
from nft_lightning.types import Completion, Sampling, Signal

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
PROMPTS = [tuple(range(5, 15)), tuple(range(3, 9))]


def batch():
    rows = [
        Row((3, 4, 5), Completion(tuple(range(6, 9 + i)), "", (0.0,) * (3 + i), False, 0), 1.0, i, i)
        for i in range(3)
    ]
    return token_batch(rows, Signal({}, torch.ones(3)), 0)


@pytest.fixture
def check(compose_config):
    def checked(*overrides):
        cfg = compose_config(*overrides, "run_dir=x")
        check_machine(cfg, build_parts(cfg))

    return checked


def policy_with(**options):
    plan, policy = PolicyConfig(**options), TinyModel().load(1.0)
    policy.model = plan.with_adapters(policy.model)
    policy.fused = plan.fused(policy.model, 1.0)
    plan.save_memory(policy.model)
    return policy


def gradients(policy, hidden=False):
    out = policy(batch(), hidden=hidden)
    out.logprobs.sum().backward()
    return {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}, out


@pytest.mark.parametrize("logprobs", ["plain", "fused"])
def test_layers_that_run_again_give_the_same_gradient(logprobs):
    expected, plain = gradients(policy_with(logprobs=logprobs), hidden=True)
    policy = policy_with(logprobs=logprobs, gradient_checkpointing=True)
    runs = []
    decoder_layers(policy.model)[0].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    found, out = gradients(policy, hidden=True)
    assert len(runs) == 2
    assert torch.equal(plain.hidden, out.hidden)
    assert found.keys() == expected.keys()
    assert all(torch.equal(expected[name], found[name]) for name in found)


def test_generation_runs_each_layer_once():
    policy = policy_with(gradient_checkpointing=True)
    engine, plain = (HFEngine(p.model, p.tokenizer) for p in (policy, TinyModel().load(1.0)))
    for one in (engine, plain):
        one.load_weights(full_tensors(one.model), 0)
    asked = (PROMPTS, Sampling(1.0, 8), [[1, 2], [3]])
    assert engine.generate(*asked) == plain.generate(*asked)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler: apt-get install g++")
@pytest.mark.skipif(" " in torch.__file__, reason="torch cannot link in a path that holds spaces")
def test_compiled_layers_give_the_same_gradient():
    expected, _ = gradients(policy_with())
    found, _ = gradients(policy_with(compile=True, gradient_checkpointing=True))
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


def test_adapters_train_alone_and_the_rest_is_the_reference():
    policy = policy_with(lora_rank=4, lora_targets="q_proj, down_proj")
    frozen = Frozen(policy, reference=True)
    found, _ = gradients(policy)
    trained = [n for n, p in policy.named_parameters() if p.requires_grad]
    assert found.keys() == set(trained)
    assert all("lora_" in name for name in trained)
    assert {name.split(".")[-4] for name in trained} == {"q_proj", "down_proj"}
    assert frozen.copy is None
    base = TinyModel().load(1.0)(batch()).logprobs
    with torch.no_grad():
        for name in trained:
            policy.get_parameter(name).add_(0.1)
        assert not torch.allclose(policy(batch()).logprobs, base, atol=1e-3)
        assert torch.allclose(frozen.logprobs(policy, batch()), base, atol=1e-6)
        assert not torch.allclose(policy(batch()).logprobs, base, atol=1e-3)


def test_a_checkpoint_of_adapters_knows_its_weights():
    policy = policy_with(lora_rank=4)
    frozen = Frozen(policy, reference=False)
    saved = {"state_dict": {f"policy.{k}": v.clone() for k, v in policy.state_dict().items()}}
    whole = dict(saved["state_dict"])
    frozen.leave_out(saved)
    assert all("lora_" in name for name in saved["state_dict"])
    frozen.put_back(saved, policy)
    assert saved["state_dict"].keys() == whole.keys()
    with torch.no_grad():
        next(p for p in policy.parameters() if not p.requires_grad)[0, 0] += 1
    with pytest.raises(UserError, match="not those that the run began with"):
        Frozen(policy, reference=False).put_back(saved, policy)


def test_halved_weights_keep_their_frequencies_and_their_losses():
    policy = TinyModel().load(1.0)
    cast_to_half(policy.model, torch.bfloat16)
    assert {p.dtype for p in policy.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in policy.buffers() if b.is_floating_point()} == {torch.float32}
    out = policy(batch())
    assert out.logprobs.dtype == out.entropy.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"quantize": "8bit"}, "policy.quantize"),
        ({"quantize": "4bit"}, "policy.quantize"),
        ({"lora_rank": -1}, "policy.lora_rank"),
        ({"lora_rank": 4, "lora_alpha": 0}, "policy.lora_alpha"),
        ({"lora_alpha": 16}, "policy.lora_alpha"),
        ({"lora_targets": "q_proj"}, "policy.lora_targets"),
    ],
)
def test_an_option_without_effect_is_refused(options, field):
    with pytest.raises(UserError, match=field):
        PolicyConfig(**options)


def test_adapters_for_layers_that_are_not_there_are_refused():
    with pytest.raises(UserError, match=r"policy\.lora_targets"):
        policy_with(lora_rank=4, lora_targets="c_attn")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["+trainer.strategy=deepspeed_stage_1"], "use deepspeed_stage_2 (trainer=zero2) or"),
        (["trainer=zero2", "trainer.precision=16-true"], "does not fit ZeRO"),
        (["trainer=zero3", "policy.compile=true"], "use trainer=zero2 or trainer=fsdp2"),
        (["trainer=zero3", "callbacks=gradient_cosine"], "gradient_cosine"),
        (["+trainer.strategy=fsdp"], "use trainer=fsdp, which is FSDP2"),
        (["trainer.precision=16-mixed"], "use bf16-mixed"),
        (["trainer=fsdp2", "callbacks=gradient_cosine"], "gradient_cosine"),
        (
            ["trainer=fsdp2", "policy.lora_rank=4", "trainer.precision=bf16-true"],
            "cannot shard together",
        ),
        (
            ["optimizer.name=adamw_8bit", "trainer.precision=bf16-true"],
            "a step below 1/256 of a weight is",
        ),
        pytest.param(["trainer=fsdp"], "trainer.accelerator='gpu' is not on", marks=NO_CUDA),
        (["policy.quantize=4bit", "policy.lora_rank=4"], "is for model=hf only"),
        *(
            pytest.param([f"optimizer.name={name}"], f"optimizer.name='{name}' needs", marks=NO_CUDA)
            for name in ("adamw_paged_8bit", "adamw_cpu_offload")
        ),
    ],
)
def test_what_this_machine_can_not_do_is_refused_in_one_sentence(check, overrides, said):
    with pytest.raises(UserError) as caught:
        check(*overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("library", "override", "install"),
    [
        ("peft", ["policy.lora_rank=4"], r"'\.\[lora\]'"),
        ("bitsandbytes", ["optimizer.name=adamw_8bit"], r"'\.\[bitsandbytes\]'"),
        ("deepspeed", ["trainer=zero3"], r"'\.\[deepspeed\]'"),
    ],
)
def test_a_missing_library_is_named(check, monkeypatch, library, override, install):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == library else find(n, *a))
    with pytest.raises(UserError, match=install):
        check(*override)


@pytest.mark.parametrize(
    ("cuda", "overrides", "dtype", "said"),
    [
        (False, ["trainer.accelerator=auto", "trainer.precision=bf16-mixed"], "float32", "needs CUDA"),
        (True, ["trainer.accelerator=cpu", "trainer.precision=bf16-mixed"], "float32", "needs CUDA"),
        (True, ["trainer.accelerator=auto"], "float32", "use bf16-mixed"),
        (True, ["trainer.accelerator=auto"], "bfloat16", None),
        (True, ["trainer.accelerator=auto", "trainer.precision=bf16-mixed"], "float32", None),
    ],
)
def test_flash_attention_is_for_gpus_and_half_precision(
    compose_config, monkeypatch, cuda, overrides, dtype, said
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    cfg = compose_config(*overrides, "run_dir=x")
    parts = SimpleNamespace(model=SimpleNamespace(attention="flash_attention_2", dtype=dtype))
    with nullcontext() if said is None else pytest.raises(UserError, match=said):
        check_attention(cfg, parts)


@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_flash_attention_is_tried_on_the_device_as_it_trains(attention):
    model = TinyModel().load(1.0).model
    model.config._attn_implementation = attention
    with as_it_trains(model, torch.device("meta"), MixedPrecision("bf16-mixed", "cpu")):
        flash = attention == "flash_attention_2"
        assert next(model.parameters()).is_meta is flash
        assert torch.is_autocast_enabled("cpu") is flash
        model.to_empty(device="cpu")
    assert not torch.is_autocast_enabled("cpu")
    assert not next(model.parameters()).is_meta


def test_an_optimizer_on_the_host_makes_the_same_steps():
    made = []
    for name in ("adamw", "adamw_cpu_offload"):
        policy = policy_with(lora_rank=4)
        plan = OptimizerConfig(name=name, weight_decay=0.1)
        optimizer = built_optimizer(plan, [policy], [1e-2])
        for _ in range(2):
            gradients(policy)
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        held = [p for group in optimizer.param_groups for p in group["params"]]
        assert len(held) == sum(p.requires_grad for p in policy.parameters())
        assert all(p.grad is None for p in policy.parameters())
        made.append(dict(policy.named_parameters()))
    assert all(torch.equal(p, made[1][name]) for name, p in made[0].items())


@pytest.mark.parametrize("found", [{"WORLD_SIZE": "4", "RANK": "3"}, {"WORLD_SIZE": "1"}])
def test_processes_and_devices_agree_or_are_refused(check, monkeypatch, found):
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"trainer\.devices"):
        check("trainer=ddp")


def test_several_ranks_in_a_process_that_nothing_launched_are_refused(compose_config):
    check_started(compose_config("trainer=cpu").trainer)
    with pytest.raises(UserError, match="use the command nft-train, which starts them"):
        check_started(compose_config("trainer=ddp").trainer)


def test_srun_tells_the_rank(monkeypatch):
    from nft_lightning.distributed.processes import rank, world_size

    started = {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train"}
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert (rank(), world_size()) == (2, 4)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (rank(), world_size()) == (5, 8)


def test_many_runs_under_torchrun_are_refused(monkeypatch):
    from nft_lightning.cli.train import offer_searches

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="would be started by each of 2 processes"):
        offer_searches(["-m", "seed=0,1"])


def test_weights_are_loaded_on_the_own_device_of_a_rank(monkeypatch):
    happened = []

    class Model:
        def load(self, temperature, **options):
            happened.append("load")
            raise StopIteration

    monkeypatch.setattr(torch.cuda, "set_device", happened.append)
    rollout = SimpleNamespace(temperature=1.0)
    parts = SimpleNamespace(policy=PolicyConfig(), model=Model(), rollout=rollout)
    device = torch.device("cuda", 1)
    with pytest.raises(StopIteration):
        loaded(parts, SimpleNamespace(strategy=SimpleNamespace(root_device=device), precision="32-true"))
    assert happened == [device, "load"]


def test_compile_is_refused_where_torch_cannot_link(monkeypatch):
    monkeypatch.setattr(torch, "__file__", "/a folder/torch/__init__.py")
    with pytest.raises(UserError, match=r"policy\.compile=True cannot link .* \(/a folder/torch\)"):
        check_policy(None, PolicyConfig(compile=True))
