"""An epoch's sums are exact, can be taken back, and continue from a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch

from nft_lightning.training.metrics import EpochMetrics, UpdateSums

CPU = torch.device("cpu")


def same(tensor, **_):
    """One rank's reduction."""
    return tensor.clone()


def add(epoch, seed):
    """What a micro-batch may add."""
    generator = torch.Generator().manual_seed(seed)
    new, old = torch.randn(2, 3, 5, generator=generator)
    epoch.mismatch.add(new, old, new > 0)
    epoch.note("policy/entropy_nats", new.sum(), (new > 0).sum())
    epoch.tally("ratio_moments", new[0, :3].abs())


def metrics_of(*seeds, interrupted=False):
    epoch = EpochMetrics()
    for seed in seeds:
        add(epoch, seed)
        if interrupted:
            state, epoch = copy.deepcopy(epoch.state_dict()), EpochMetrics()
            epoch.load_state_dict(state)
    return epoch.reduced(same, CPU, 1)


def test_what_was_taken_back_leaves_nothing():
    epoch = EpochMetrics()
    add(epoch, 1)
    kept = epoch.kept()
    for seed in (7, 8):
        add(epoch, seed)
    epoch.go_back(kept)
    add(epoch, 2)
    assert epoch.reduced(same, CPU, 1) == metrics_of(1, 2) != metrics_of(1, 7, 8, 2)


def test_a_checkpoint_after_every_micro_batch_changes_nothing():
    assert metrics_of(1, 2, 3, interrupted=True) == pytest.approx(metrics_of(1, 2, 3), rel=1e-14)


def test_checkpoints_of_earlier_versions_are_read():
    """They hold one pair for each micro-batch, in fp32."""
    epoch = EpochMetrics()
    add(epoch, 1)
    state = epoch.state_dict()
    state["sums"] = {"policy/entropy_nats": torch.tensor([[1.0, 2.0], [3.0, 6.0]])}
    epoch.load_state_dict(state)
    epoch.note("policy/entropy_nats", torch.tensor(4.0), torch.tensor(2))
    assert epoch.reduced(same, CPU, 1)["policy/entropy_nats"] == 0.8


def test_counts_beyond_those_of_fp32_are_exact():
    epoch = EpochMetrics()
    for count in (2**24, 1, 1):
        epoch.note("a/b", torch.tensor(count), torch.tensor(0))
        epoch.settle()
    assert epoch.reduced(same, CPU, 1) == {"a/b": 2**24 + 2}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_loss_that_is_not_finite_marks_the_update(bad):
    update, one = UpdateSums(CPU), torch.tensor(1.0)
    update.add(one, one, one)
    assert update.reduced(same) == (1.0, 1.0, True)
    update.add(torch.tensor(bad), one, one)
    update.add(one, one, one)
    _, entropy, finite = update.reduced(same)
    assert (entropy, finite) == (1.0, False)
