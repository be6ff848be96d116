"""How far the engine's log-probabilities may be from the trainer's: what rounding explains, no more."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from nft_lightning.engines.base import SyncError
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.policy.loading import TinyModel
from nft_lightning.policy.policy import Policy
from nft_lightning.rollouts.sync_check import SyncCheck, computed_in

PROBE = [tuple(range(5, 77))]


class Off(HFEngine):
    """Says log-probabilities that are ``gap`` off, in a type of its own."""

    gap = 0.0
    dtype: torch.dtype | None = None

    def generate(self, prompts, sampling, seeds):
        return [
            [dataclasses.replace(c, logprobs=c.logprobs - self.gap) for c in group]
            for group in super().generate(prompts, sampling, seeds)
        ]


@pytest.fixture(scope="module")
def policy():
    return TinyModel().load(1.0)


@pytest.mark.parametrize(
    ("dtype", "gap", "said"),
    [
        (None, 0.005, None),
        (None, 0.1, "where 0.01 is allowed"),
        (torch.float32, 0.1, "where 0.01 is allowed"),
        (torch.bfloat16, 0.1, None),
        (torch.bfloat16, 0.6, "where 0.5 is allowed"),
    ],
)
def test_the_bound_is_that_of_the_coarser_type(policy, dtype, gap, said):
    engine = Off(policy.model, policy.tokenizer)
    engine.load_weights(full_tensors(policy.model), 3)
    engine.gap, engine.dtype = gap, dtype
    if said is None:
        assert SyncCheck().check(engine, policy, PROBE, 3) == pytest.approx(gap, abs=1e-3)
        return
    with pytest.raises(SyncError, match=said):
        SyncCheck().check(engine, policy, PROBE, 3)


def test_a_given_bound_holds_whatever_the_types(policy):
    engine = Off(policy.model, policy.tokenizer)
    engine.load_weights(full_tensors(policy.model), 3)
    engine.gap, engine.dtype = 0.1, torch.bfloat16
    with pytest.raises(SyncError, match=r"where 0\.05 is allowed"):
        SyncCheck(max_logprob_gap=0.05).check(engine, policy, PROBE, 3)


def test_layers_of_4_bits_round_as_what_they_compute_in():
    model = nn.Sequential(nn.Linear(2, 2))
    policy = Policy(model, None)
    assert computed_in(policy) == torch.float32
    model[0].compute_dtype = torch.bfloat16
    assert computed_in(policy) == torch.bfloat16
