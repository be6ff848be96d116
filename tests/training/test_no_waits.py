"""Inside a micro-batch nothing waits for the device, whatever the algorithm and the layout."""

from __future__ import annotations

import random
from dataclasses import replace

import lightning as L
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nft_lightning import (
    ArithmeticProblems,
    ExactVerifier,
    PolicyModule,
    RolloutDataModule,
    load_policy,
)
from nft_lightning.batching.layout import layout
from nft_lightning.objectives.base import Outcomes
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.logprobs import Head
from nft_lightning.training.metrics import UpdateSums
from nft_lightning.types import Completion, Group, Problem, Rollout, Verdict
from tests.objectives.family import FAMILY

# What asks a device for numbers, or makes a tensor whose shape depends on them.
OPERATORS = {
    "_local_scalar_dense",
    "nonzero",
    "nonzero_numpy",
    "masked_select",
    "bincount",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "equal",
    "is_nonzero",
}
# What the CPU answers without an operator.
METHODS = {"cpu", "tolist", "numpy", "item", "__bool__", "__int__", "__float__", "__array__"}
EVERYTHING = {
    "kl_coefficient": 0.1,
    "entropy_coefficient": 0.1,
    "importance_correction": "mask",
    "importance_correction_level": "geometric",
    "off_policy_mask": 0.5,
}


class Operators(TorchDispatchMode):
    """Writes down the operators that wait, in the forward pass and in the backward pass."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[1].split(".")[0]
        indices = args[1] if name.startswith(("index", "_index_put", "_unsafe_index")) else ()
        by_mask = isinstance(indices, list | tuple) and any(
            isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices
        )
        if name in OPERATORS or by_mask:
            self.found.append(f"{name} by a mask" if by_mask else name)
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    """Writes down the methods that wait and that the CPU answers without an operator."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in METHODS:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


def waits(action):
    """The names of what waits in ``action``."""
    with Operators() as operators, Methods() as methods:
        action()
    return operators.found + methods.found


@pytest.mark.parametrize(
    "action",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: float(x.sum()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.index_put((x > 0,), torch.ones(())),
        lambda x: (x > 0).nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.long().bincount(),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: "positive" if x.sum() > 0 else "negative",
    ],
)
def test_what_waits_is_seen(action):
    assert waits(lambda: action(torch.ones(3)))


def test_what_does_not_wait_is_not():
    x = torch.ones(3, requires_grad=True)
    assert not waits(lambda: torch.where(x > 0, x, 0.0)[torch.tensor([0, 2])].sum().backward())


def made_rollout(vocabulary):
    """Two problems with four answers of different lengths, right and wrong ones in each."""
    draw, groups = random.Random(0), []
    for g in range(2):
        completions = []
        for k in range(4):
            ids = tuple(draw.randrange(4, vocabulary) for _ in range(2 + 3 * k + g))
            completions.append(Completion(ids, "", (-1.0,) * len(ids), False, 0))
        rewards = (1.0, 0.0, 0.0, 1.0)
        verdicts = tuple(Verdict("correct" if r else "wrong", None, 0.0) for r in rewards)
        prompt = tuple(range(4, 9 + g))
        groups.append(Group(Problem(str(g), "", ""), prompt, tuple(completions), verdicts, rewards))
    return Rollout(tuple(groups), 0)


def made_micro_batch(module):
    """The micro-batch of a rollout of eight answers, with all that an objective may ask for."""
    objective, rollout = module.objective, made_rollout(module.policy.model.config.vocab_size)
    outcomes = Outcomes(rollout.rewards, rollout.group_ids, rollout.lengths, 64, rollout.truncated)
    (batch,) = layout(
        rollout,
        objective.signal(outcomes),
        updates=1,
        max_tokens_per_micro_batch=10_000,
        reduction=objective.reduction,
        max_new_tokens=64,
        seed=0,
    )
    (micro,) = batch.micro_batches
    now = module.policy(micro).logprobs.detach()
    return replace(micro, old_logprobs=now - 0.01, reference_logprobs=now - 1, old_values=0 * now)


def made_module(objective, padding_free, fused=False):
    """The module as a run has it, with a trainer and its data, before the first step."""
    policy = load_policy("tiny")
    policy.padding_free = padding_free
    policy.fused = Head(1.0) if fused else None
    policy.config = PolicyConfig()
    if objective.needed_inputs.teacher:
        objective = replace(objective, teacher_path="tiny")
    module = PolicyModule(policy, objective)
    data = RolloutDataModule(policy, ArithmeticProblems(), ExactVerifier(), prompt_template="equals")
    trainer = L.Trainer(accelerator="cpu", logger=False, barebones=True)
    trainer.datamodule, module.trainer = data, trainer
    trainer.strategy.connect(module)
    return module


def trained_on(module, micro, device):
    """What a step does of a micro-batch, and what is added up behind the last, on ``device``."""
    module.to(device)
    moved = micro.to(device)
    module.update = UpdateSums(torch.device(device))

    def action():
        module.backward_one(moved, last=True)
        module.epoch.settle()

    return action


CASES = {name: (objective, False) for name, objective in FAMILY.items()}
CASES["grpo with every option"] = (replace(FAMILY["grpo"], **EVERYTHING), False)
CASES["grpo with tiles"] = (FAMILY["grpo"], True)
CASES["ppo with a critic of its own"] = (replace(FAMILY["ppo"], critic="own"), False)


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_micro_batch_does_not_wait(case, padding_free):
    objective, fused = CASES[case]
    module = made_module(objective, padding_free, fused)
    micro = made_micro_batch(module)
    assert waits(trained_on(module, micro, "cpu")) == []
    gradients = [p.grad for p in module.policy.parameters()]
    assert any(bool(g.any()) for g in gradients if g is not None)


# torch.autocast, which tiles and critics switch off, knows no meta device.
WITHOUT_AUTOCAST = [name for name in CASES if "ppo" not in name and "tiles" not in name]


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("case", WITHOUT_AUTOCAST)
def test_a_micro_batch_needs_no_numbers_on_the_host(case, padding_free):
    """A device without any numbers, torch's meta device, refuses to give them away."""
    objective, fused = CASES[case]
    module = made_module(objective, padding_free, fused)
    micro = made_micro_batch(module)
    trained_on(module, micro, "meta")()
    assert all(p.grad.is_meta for p in module.policy.parameters() if p.grad is not None)
