"""NaN and infinity where nothing was written, or from an engine, never reach a loss or a gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nft_lightning.objectives import GRPO, Outcomes
from tests.objectives.family import FAMILY, evaluate, extras

WILD = [float("nan"), float("inf"), -float("inf"), 1e38]
OPTIONS = {"kl_coefficient": 0.1, "kl_estimator": "k3_unbiased", "entropy_coefficient": 0.1}
REWARDS, IDS = (torch.arange(6) % 2).double(), torch.arange(6) // 3


def with_options(name):
    """The algorithm with every option that it takes."""
    objective = FAMILY[name]
    refused = objective.unsupported_options
    wanted = {**OPTIONS, "importance_correction": "truncate", "off_policy_mask": 0.2}
    if "kl_coefficient" in refused:
        wanted.pop("kl_estimator")
    return replace(objective, **{k: v for k, v in wanted.items() if k not in refused})


def tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(6, 5, generator=generator) < 0.6
    made = -torch.rand(5, 6, 5, generator=generator, dtype=torch.float64)
    return mask, dict(
        zip(("logprobs", "old", "reference_logprobs", "engine_logprobs"), made, strict=False)
    )


def run(objective, given_tensors, mask):
    logprobs = given_tensors["logprobs"].clone().requires_grad_()
    more = {k: v for k, v in given_tensors.items() if k not in ("logprobs", "old")}
    out = evaluate(objective, logprobs, given_tensors["old"], mask, REWARDS, IDS, **more)
    return out, torch.autograd.grad(out.loss, logprobs)[0]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), wild=st.sampled_from(WILD))
@pytest.mark.parametrize("name", FAMILY)
def test_what_stands_at_masked_places_changes_nothing(name, seed, wild):
    objective = with_options(name)
    mask, clean = tensors(seed)
    dirty = {k: torch.where(mask, x, wild) for k, x in clean.items()}
    (a, slope_a), (b, slope_b) = run(objective, clean, mask), run(objective, dirty, mask)
    assert torch.isfinite(a.loss)
    assert a.loss.item() == b.loss.item()
    assert torch.equal(slope_a, slope_b)
    assert {k: v for k, v in a.metrics.items() if v == v} == {
        k: v for k, v in b.metrics.items() if v == v
    }


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    wild=st.sampled_from(WILD[:3]),
    correction=st.sampled_from(
        [
            *(("truncate", level) for level in ("token", "sequence")),
            *(
                (kind, level)
                for kind in ("mask", "reject")
                for level in ("token", "sequence", "geometric")
            ),
        ]
    ),
    row=st.integers(0, 5),
)
def test_what_an_engine_could_not_score_weighs_nothing(seed, wild, correction, row):
    kind, level = correction
    objective = GRPO(importance_correction=kind, importance_correction_level=level)
    mask, clean = tensors(seed)
    mask[row, :2] = True
    dirty = {**clean, "engine_logprobs": clean["engine_logprobs"].clone()}
    dirty["engine_logprobs"][row, 0] = wild
    (_, whole), (out, slope) = run(objective, clean, mask), run(objective, dirty, mask)
    assert torch.isfinite(out.loss)
    assert slope[row, 0] == 0
    others = torch.ones_like(mask)
    others[row, 0] = False
    if level != "token":
        # The weight of a row is not known without each of its tokens.
        assert (slope[row] == 0).all()
        others[row] = False
    assert torch.equal(slope[others], whole[others])


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 999), wild=st.sampled_from(WILD[:3]))
@pytest.mark.parametrize("name", [n for n in FAMILY if n != "sft"])
def test_a_token_without_an_old_logprob_is_left_out(name, seed, wild):
    """As where the engine's own log-probabilities are the old ones."""
    objective = with_options(name)
    mask, clean = tensors(seed)
    unknown = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)) < 0.2
    signal = objective.signal(Outcomes(REWARDS, IDS, mask.sum(1))).values

    def slope(old, where):
        logprobs = clean["logprobs"].clone().requires_grad_()
        more = {**extras(objective, logprobs), **signal}
        loss = objective.loss(logprobs, old, where, more).loss
        return torch.autograd.grad(loss.sum(), logprobs)[0]

    dirty = torch.where(unknown, wild, clean["old"])
    found = slope(dirty, mask)
    assert torch.isfinite(found).all()
    assert torch.equal(found, slope(clean["old"], mask & ~unknown))


def test_a_policy_that_gives_nan_is_seen():
    """So that the training step can refuse the update."""
    mask, given_tensors = tensors(0)
    given_tensors["logprobs"][mask] = float("nan")
    given_tensors["old"][mask] = float("nan")
    out, _ = run(GRPO(), given_tensors, mask)
    assert torch.isnan(out.loss)
