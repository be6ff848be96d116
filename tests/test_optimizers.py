"""AdamW's masters: what they keep that narrow weights lose, and that nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import MasterAdamW, built_optimizer

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
