"""The learning rate of every update: by name, by a function, by a scheduler of torch."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch

from nft_lightning.app.parts import build_parts
from nft_lightning.app.preflight import check_machine
from nft_lightning.errors import UserError
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import built_optimizer, tiny_weights
from nft_lightning.training.schedule import built_schedule, described, replayed
from tests.resume.conftest import brief

RATE = 3e-4


def inverse_root(update: int, start: float = 1.0) -> float:
    return start / math.sqrt(update + 1)


def straight(update: int, total_updates: int) -> float:
    return 1 - update / total_updates


def negative(update: int) -> float:
    return -1.0 - update


def rates(plan, updates, total=None):
    """The rate of each update."""
    optimizer = built_optimizer(plan, tiny_weights(), [plan.learning_rate])
    schedule = built_schedule(plan, optimizer, total)
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def plan_of(**options):
    return OptimizerConfig(learning_rate=RATE, **options)


def test_constant_is_the_rate_itself():
    assert rates(plan_of(), 5) == [RATE] * 5


def test_the_warm_up_is_linear_to_the_bit():
    assert rates(plan_of(warmup_updates=7), 9) == [RATE * min(1.0, (n + 1) / 7) for n in range(9)]


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_schedule_falls_from_the_warm_up_to_its_least_factor(name):
    found = rates(plan_of(schedule=name, warmup_updates=4, min_factor=0.1), 30, total=24)
    assert found[:4] == [RATE * (n + 1) / 4 for n in range(4)]
    assert found[4] == RATE
    assert all(a > b for a, b in itertools.pairwise(found[4:25]))
    middle = RATE * 0.55
    assert found[14] == pytest.approx(middle)
    assert found[24:] == pytest.approx([RATE * 0.1] * 6)


def test_torch_agrees_about_the_cosine():
    theirs = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20)
    ours = rates(plan_of(schedule="cosine"), 20, total=20)
    assert rates(plan_of(schedule=theirs), 20) == pytest.approx(ours)


def test_a_function_counts_from_the_end_of_the_warm_up():
    found = rates(plan_of(schedule=partial(inverse_root, start=0.5), warmup_updates=2), 4)
    assert found == [RATE / 2, RATE, RATE * 0.5, RATE * 0.5 / math.sqrt(2)]
    assert rates(plan_of(schedule=straight), 2, total=10) == [RATE, RATE * 0.9]


def test_a_warm_up_comes_before_a_scheduler_of_torch():
    steps = partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.5)
    found = rates(plan_of(schedule=steps, warmup_updates=3), 8)
    factors = [1 / 3, 2 / 3, 1, 1, 1, 0.5, 0.5, 0.25]
    assert found == pytest.approx([RATE * f for f in factors])


@pytest.mark.parametrize(
    "schedule",
    [
        "cosine",
        inverse_root,
        partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9),
        partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=RATE, total_steps=20),
    ],
)
def test_a_schedule_made_anew_continues_as_if_it_had_always_been(schedule):
    plan = plan_of(schedule=schedule)
    optimizer = built_optimizer(plan, tiny_weights(), [RATE])
    after = replayed(plan, optimizer, 20, updates=6)
    found = []
    for _ in range(6):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        after.step()
    assert found == rates(plan, 12, total=20)[6:]


def test_equal_configs_are_described_alike():
    twice = [described(partial(inverse_root, start=0.5)) for _ in range(2)]
    assert twice[0] == twice[1]
    assert "0x" not in twice[0]
    assert described(partial(inverse_root, start=0.4)) != twice[0]


STEP = "{_target_:torch.optim.lr_scheduler.StepLR,_partial_:true,step_size:2}"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optimizer.schedule=triangle"], "use one of constant, linear, cosine"),
        (["optimizer.schedule=constant", "optimizer.min_factor=0.1"], "has no effect"),
        (["optimizer.schedule=cosine", "optimizer.min_factor=2"], r"is outside \[0, 1\]"),
        ([f"optimizer.schedule={STEP.replace(',_partial_:true', '')}"], "_partial_: true"),
        ([f"optimizer.schedule={STEP.replace('step_size', 'stepsize')}"], "step_size"),
        (["optimizer.schedule={_target_:math.log,_partial_:true}"], "does not say which arguments"),
        (
            ["optimizer.schedule={_target_:tests.training.test_schedules.negative,_partial_:true}"],
            "a rate of -",
        ),
        (["optimizer.schedule={_target_:textwrap.dedent,_partial_:true}"], "cannot be used"),
        (["optimizer.schedule={_target_:no.such_thing}"], "cannot be imported"),
    ],
)
def test_a_schedule_that_cannot_be_used_is_refused_before_a_model_is_loaded(overrides, said):
    cfg = brief(*overrides, "verifier=exact")
    with pytest.raises(UserError, match=said):
        check_machine(cfg, build_parts(cfg))
