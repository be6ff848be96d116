"""Devices without float64, by a stand-in: a tensor that refuses it until it is on the host."""

from __future__ import annotations

import pytest
import torch

from nft_lightning.app.hardware import check_devices
from nft_lightning.common import precise
from nft_lightning.common.precise import exact, sent, widest
from nft_lightning.errors import UserError
from nft_lightning.objectives.diagnostics import ratio_sums, summarise
from nft_lightning.policy.checksum import checksum
from nft_lightning.rollouts.mismatch import Mismatch
from nft_lightning.stats.estimates import AnswerCounts
from nft_lightning.training.metrics import EpochMetrics
from nft_lightning.types import TokenBatch

APPLE = torch.device("mps")


class Apple(torch.Tensor):
    """A tensor of a device without float64: only what ``cpu()`` returns can be that wide."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs or {})
        if func is torch.Tensor.cpu:
            return out.as_subclass(torch.Tensor)
        if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
            raise TypeError("the device has no float64")
        return out


def apple(tensor):
    return tensor.as_subclass(Apple)


def test_the_stand_in_refuses():
    with pytest.raises(TypeError, match="no float64"):
        apple(torch.ones(2)).double()
    assert exact(apple(torch.ones(2))).dtype == torch.float64
    assert type(exact(apple(torch.ones(2)))) is torch.Tensor


def test_the_widest_type():
    assert widest(APPLE) == torch.float32
    assert widest(torch.device("cpu")) == widest(torch.device("cuda")) == torch.float64


def test_what_goes_back_to_the_device_is_as_wide_as_it_can_be(monkeypatch):
    wide, whole = torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.int64)
    host, other = torch.device("cpu"), torch.device("meta")
    assert sent(wide, host).dtype == torch.float64
    monkeypatch.setattr(precise, "WITHOUT_FLOAT64", ("meta",))
    assert sent(wide, other).dtype == torch.float32
    assert sent(whole, other).dtype == torch.int64
    assert sent(wide, other).device == other


def measured(wrap, device):
    """An epoch's metrics of made-up tensors, and what was asked to be reduced."""
    generator = torch.Generator().manual_seed(0)
    new, old = torch.randn(2, 4, 7, generator=generator)
    mask = torch.arange(7)[None] < torch.tensor([7, 3, 5, 1])[:, None]
    right = torch.tensor([True, False, True, False])
    epoch, seen = EpochMetrics(), []
    epoch.mismatch.add(wrap(new), wrap(old), wrap(mask))
    for name, found in ratio_sums(wrap(new - old), wrap(mask), wrap(right)).items():
        epoch.tally(name, found)
    epoch.note("objective/loss", wrap(new.sum()), wrap(torch.tensor(1.0)))
    epoch.note("objective/loss", wrap(old.sum()), wrap(torch.tensor(1.0)))

    def reduce(tensor, **_):
        seen.append(tensor.dtype)
        return wrap(tensor)

    return epoch.reduced(reduce, device, 1), seen


def test_an_epochs_metrics(monkeypatch):
    expected, wide = measured(lambda tensor: tensor, torch.device("cpu"))
    monkeypatch.setattr(precise, "WITHOUT_FLOAT64", ("cpu",))
    found, narrow = measured(apple, torch.device("cpu"))
    assert torch.float64 in wide
    assert torch.float64 not in narrow
    assert found.keys() == expected.keys()
    assert all(found[name] == pytest.approx(expected[name], rel=1e-6) for name in expected)


def test_mismatch_of_nothing(monkeypatch):
    monkeypatch.setattr(precise, "WITHOUT_FLOAT64", ("cpu",))
    gap = Mismatch()
    gap.add(apple(torch.ones(1, 2)), apple(torch.ones(1, 2)), apple(torch.zeros(1, 2).bool()))
    assert not gap.moments.any()


def test_evaluations_are_counted_on_the_host():
    given = (torch.tensor([1, 0]), torch.tensor([2, 1]), torch.tensor([4, 4]), torch.tensor([1.0, 0.5]))
    plain, counted = AnswerCounts(), AnswerCounts()
    plain.update(*given)
    counted.update(*map(apple, given))
    assert counted.compute() == plain.compute()


def test_explained_variance():
    sums = torch.tensor([4.0, 2.0, 6.0, 1.0, 2.0])
    assert summarise("value_moments", apple(sums)) == summarise("value_moments", sums)


def test_checksums_are_the_same_there():
    tensor = torch.randn(30, 4)
    assert checksum([("w", apple(tensor))]) == checksum([("w", tensor)])


def test_batches_hold_no_float64():
    mask = torch.ones(1, 2).bool()
    batch = TokenBatch(
        torch.ones(1, 3).long(),
        torch.ones(1, 3).long(),
        mask,
        torch.ones(1, 2),
        torch.ones(1, 2),
        {"advantage": torch.ones(1, dtype=torch.float64)},
    )
    moved = batch.to("meta")
    assert {t.dtype for t in (moved.token_weight, *moved.signal.values())} == {torch.float32}


@pytest.mark.parametrize(
    ("accelerator", "words"),
    [("tpu", "is not one that a run can use"), ("mps", "is not on this machine")],
)
def test_other_accelerators_are_refused_at_the_start(compose_config, accelerator, words):
    if accelerator == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UserError, match=words):
        check_devices(compose_config(f"trainer.accelerator={accelerator}"), None)
