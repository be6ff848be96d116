"""AdamW's masters: what they keep that narrow weights lose, and that nothing else changes."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from nft_lightning.app.parts import build_parts
from nft_lightning.app.preflight import check_machine
from nft_lightning.errors import UserError
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import MasterAdamW, built_optimizer
from nft_lightning.training.optimizer_numbers import give_numbers

HALVES = [torch.bfloat16, torch.float16]


class Weights(nn.Module):
    """Three tensors of one number each, so that a test can see them move."""

    def __init__(self, dtype):
        super().__init__()
        self.parts = nn.ParameterList(torch.full((2, 3), x, dtype=dtype) for x in (0.02, -1.0, 3.0))


def trained(dtype, updates, name="adamw", rate=1e-3, weight_decay=0.0):
    weights = Weights(dtype)
    plan = OptimizerConfig(name=name, learning_rate=rate, weight_decay=weight_decay)
    optimizer = built_optimizer(plan, [weights], [rate])
    step(weights, optimizer, range(updates))
    return weights, optimizer


def step(weights, optimizer, updates):
    for update in updates:
        for i, part in enumerate(weights.parts):
            part.grad = torch.full_like(part, 0.5 + 0.25 * ((update + i) % 3))
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("dtype", HALVES)
def test_steps_too_small_for_a_weight_add_up(dtype):
    # A step of a millionth of each weight, ten thousand times: 1 %.
    weights = [nn.Parameter(torch.ones(4, dtype=dtype)) for _ in range(2)]
    masters, lossy = (
        MasterAdamW([{"params": weights[:1]}], lr=1e-6),
        torch.optim.AdamW(weights[1:], 1e-6),
    )
    for optimizer, weight in zip((masters, lossy), weights, strict=True):
        for _ in range(10_000):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
    assert torch.equal(weights[1], torch.ones_like(weights[1]))
    assert weights[0].tolist() == pytest.approx([0.99] * 4, abs=torch.finfo(dtype).eps / 2)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ["adamw", "adamw_cpu_offload"])
def test_masters_make_the_steps_of_fp32(dtype, name):
    halved = Weights(dtype)
    reference = [nn.Parameter(p.detach().float()) for p in halved.parts]
    plain = torch.optim.AdamW(reference, 1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    for update in range(5):
        for i, part in enumerate(reference):
            part.grad = torch.full_like(part, 0.5 + 0.25 * ((update + i) % 3))
        plain.step()
    weights, optimizer = trained(dtype, 5, name, weight_decay=0.1)
    for part, master, expected in zip(weights.parts, optimizer.masters, reference, strict=True):
        assert part.dtype == dtype
        assert master.dtype == torch.float32
        assert torch.equal(master, expected)
        assert torch.equal(part, expected.to(dtype))
    for master in optimizer.masters:
        assert {optimizer.state[master][k].dtype for k in ("exp_avg", "exp_avg_sq")} == {torch.float32}


def test_whole_parameters_are_stepped_on_as_ever():
    weights, optimizer = trained(torch.float32, 3)
    assert all(m is p for m, p in zip(optimizer.masters, weights.parts, strict=True))
    plain = torch.optim.AdamW(Weights(torch.float32).parts)
    assert optimizer.state_dict().keys() == plain.state_dict().keys()
    assert {name for state in optimizer.state_dict()["state"].values() for name in state} == {
        "step",
        "exp_avg",
        "exp_avg_sq",
    }


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("name", ["adamw", "adamw_cpu_offload"])
@pytest.mark.parametrize("before", [0, 3])
def test_a_checkpoint_goes_on_exactly(dtype, name, before):
    whole, there = trained(dtype, 6, name)
    half, optimizer = trained(dtype, before, name)
    saved = copy.deepcopy((half.state_dict(), optimizer.state_dict()))
    again, other = trained(dtype, 1, name)  # has moved on, as nothing that is resumed would
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    step(again, other, range(before, 6))
    for ours, theirs in ((again.parts, whole.parts), (other.masters, there.masters)):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    states = other.state_dict()["state"], there.state_dict()["state"]
    assert all(torch.equal(states[0][i][k], v) for i in states[1] for k, v in states[1][i].items())


def test_a_parameter_without_gradient_keeps_its_master():
    weights, optimizer = trained(torch.bfloat16, 1)
    before = [m.clone() for m in optimizer.masters]
    weights.parts[0].grad = torch.ones_like(weights.parts[0])
    optimizer.step()
    assert [torch.equal(a, b) for a, b in zip(before, optimizer.masters, strict=True)] == [
        False,
        True,
        True,
    ]


class Layer(nn.Module):
    """A matrix, a bias and a norm."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 3), nn.LayerNorm(3)


def test_norms_and_biases_do_not_decay():
    plan = OptimizerConfig(weight_decay=0.5, learning_rate=0.1, epsilon=1e-6)
    layer = Layer()
    optimizer = built_optimizer(plan, [layer], [0.1])
    assert {group["eps"] for group in optimizer.param_groups} == {1e-6}
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in layer.named_parameters():
        kept = 0.95 if name == "linear.weight" else 1.0
        assert torch.allclose(parameter, before[name] * kept), name


def test_two_groups_step_as_one_without_decay():
    layers = [Layer(), Layer()]
    layers[1].load_state_dict(layers[0].state_dict())
    two = built_optimizer(OptimizerConfig(), layers[:1], [1e-2])
    one = torch.optim.AdamW(layers[1].parameters(), 1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    assert [group["name"] for group in two.param_groups] == ["policy", "policy_no_decay"]
    for _ in range(3):
        for layer, optimizer in zip(layers, (two, one), strict=True):
            layer.norm(layer.linear(torch.arange(6.0).view(2, 3))).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    pairs = zip(layers[0].parameters(), layers[1].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_lora_has_no_empty_group():
    matrices = built_optimizer(OptimizerConfig(), [Weights(torch.float32)], [1e-3])
    assert [group["name"] for group in matrices.param_groups] == ["policy"]


SGD = partial(torch.optim.SGD, momentum=0.9)


def test_an_optimizer_of_ones_own_gets_rates_and_decay():
    plan = OptimizerConfig(custom=SGD, weight_decay=0.1)
    optimizer = built_optimizer(plan, [Layer()], [0.3])
    assert isinstance(optimizer, torch.optim.SGD)
    found = [(g["lr"], g["weight_decay"], g["momentum"]) for g in optimizer.param_groups]
    assert found == [(0.3, 0.1, 0.9), (0.3, 0.0, 0.9)]


def test_a_changed_option_of_ones_own_optimizer_is_taken():
    layer = Layer()
    optimizer = built_optimizer(OptimizerConfig(custom=SGD), [layer], [0.3])
    changed = OptimizerConfig(custom=partial(torch.optim.SGD, momentum=0.5), weight_decay=0.1)
    give_numbers(optimizer, changed, [layer], [0.2])
    found = [(g["lr"], g["weight_decay"], g["momentum"]) for g in optimizer.param_groups]
    assert found == [(0.2, 0.1, 0.5), (0.2, 0.0, 0.5)]


OWN = "{_target_:torch.optim.SGD,_partial_:true,momentum:0.9}"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([f"optimizer.custom={OWN}", "optimizer.name=adamw_8bit"], "leave out one of them"),
        ([f"optimizer.custom={OWN}", "trainer.precision=bf16-true"], "has fp32 masters"),
        ([f"optimizer.custom={OWN}", "trainer=fsdp2"], "may not know sharded parameters"),
        ([f"optimizer.custom={OWN.replace(',_partial_:true', '')}"], "_partial_: true"),
        ([f"optimizer.custom={OWN.replace('momentum', 'momentun')}"], "momentum"),
        (["optimizer.custom={_target_:torch.optim.LBFGS,_partial_:true}"], "cannot be used"),
        (["optimizer.custom=sgd"], "makes no optimizer"),
        (["optimizer.epsilon=0"], "is not above 0"),
    ],
)
def test_an_optimizer_that_cannot_be_used_is_refused_before_a_model_is_loaded(
    compose_config, overrides, said
):
    cfg = compose_config(*overrides, "verifier=exact", "run_dir=x")
    with pytest.raises(UserError, match=said):
        check_machine(cfg, build_parts(cfg))
