"""Training is what it was: a new version of a library that moves a loss or a gradient shows here."""

from __future__ import annotations

import json

import pytest

from tests.golden.trajectory import ALGORITHMS, LOSSES, ROLLOUTS, UPDATES, trajectory


def close_to(algorithm):
    """The stored values, with an absolute bound for losses that are 0."""
    stored = json.loads(LOSSES.read_text())[algorithm]
    return [pytest.approx(pair, rel=1e-6, abs=1e-7) for pair in stored]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ten_updates_are_what_they_were(algorithm):
    expected = close_to(algorithm)
    assert len(expected) == ROLLOUTS * UPDATES
    # Where a change is meant: python -m tests.golden.trajectory losses
    assert trajectory(algorithm) == expected


def test_a_change_of_one_in_ten_thousand_is_seen():
    found, expected = trajectory("grpo", "optimizer.beta1=0.90009"), close_to("grpo")
    # The first step does not depend on it, and the second meets what the first has made.
    assert found[:2] == expected[:2]
    assert all(pair != stored for pair, stored in zip(found[2:], expected[2:], strict=True))
