"""Old log-probabilities are there wherever the weights of a step are not those that wrote."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nft_lightning.common.timing import PhaseTimer
from nft_lightning.objectives import GRPO, NFT
from nft_lightning.objectives.base import RequiredInputs
from nft_lightning.policy.loading import TinyModel
from nft_lightning.training.batches import completed
from nft_lightning.training.module import PolicyModule
from nft_lightning.types import OptimizerBatch, TokenBatch
from tests.batching.test_layout_invariance import POLICY

VERSION = 6


def batch(step: int, version: int, old: bool = False) -> OptimizerBatch:
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0]])
    mask = torch.tensor([[False, True, True], [False, True, False]])
    logprobs = torch.full((2, 3), -0.5) if old else None
    signal = {"reward": torch.tensor([1.0, 0.0]), "accuracy": torch.tensor([0.5, 0.5])}
    micro = TokenBatch(
        ids, torch.ones_like(ids), mask, mask / 3, torch.zeros(2, 3), signal, old_logprobs=logprobs
    )
    return OptimizerBatch([micro], step, version)


def made(given: OptimizerBatch, objective, **options):
    """The old log-probabilities, and how many tokens were computed for them."""
    timer = PhaseTimer()
    learner = SimpleNamespace(
        policy=POLICY, policy_version=VERSION, device=torch.device("cpu"), critic=None, frozen=None
    )
    with torch.no_grad():
        (micro,) = completed(given, objective, learner, timer, **options).micro_batches
    return micro.old_logprobs, timer.tokens["old_logprobs"]


@pytest.mark.parametrize("objective", [NFT(), GRPO()])
def test_the_step_of_the_version_that_wrote_needs_none(objective):
    assert made(batch(0, VERSION), objective) == (None, 0)
    for step in (1, 2):
        found, tokens = made(batch(step, VERSION), objective)
        with torch.no_grad():
            assert torch.equal(found, POLICY(batch(step, VERSION).micro_batches[0]).logprobs)
        assert tokens == 3


def test_a_first_step_that_comes_later_needs_them():
    """Two updates of another rollout come before: the weights that wrote are still here now."""
    found, tokens = made(batch(0, VERSION), NFT(), first_version=VERSION + 2)
    with torch.no_grad():
        assert torch.equal(found, POLICY(batch(0, VERSION).micro_batches[0]).logprobs)
    assert tokens == 3


def test_those_of_weights_that_are_gone_must_be_given():
    for step in (0, 1):
        found, tokens = made(batch(step, VERSION - 2, old=True), NFT())
        assert torch.equal(found, torch.full((2, 3), -0.5))
        assert tokens == 0
        with pytest.raises(RuntimeError, match="policy version 4 met version 6 without its old"):
            made(batch(step, VERSION - 2), NFT())


def test_who_needs_none_gets_none():
    class NeedsNone(GRPO):
        required_inputs = RequiredInputs(old_logprobs=False)

    for given in (batch(0, VERSION), batch(1, VERSION), batch(0, VERSION - 2)):
        assert made(given, NeedsNone()) == (None, 0)


def test_a_step_without_them_is_refused():
    module = PolicyModule(TinyModel().load(1.0), NFT())
    module.policy_version = VERSION
    for step in (0, 1):
        with pytest.raises(RuntimeError, match="policy version 4 met version 6 without its old"):
            module.training_step(batch(step, VERSION - 2), 0)


def test_the_ratio_of_a_stale_first_step_is_that_to_the_writer():
    (micro,) = batch(0, VERSION - 2, old=True).micro_batches
    logprobs = torch.full((2, 3), -0.25, requires_grad=True)
    signal = {"reward": torch.tensor([1.0, 1.0]), "advantage": torch.tensor([1.0, 1.0])}
    loss = replace(GRPO(), clip_high=10.0).loss(logprobs, micro.old_logprobs, micro.mask, signal).loss
    assert loss[micro.mask].tolist() == pytest.approx([-math.exp(0.25)] * 3)
