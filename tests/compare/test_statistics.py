from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nft_lightning.stats.intervals import accuracy, cost_to_reach, crossed, holm, over_seeds


def draw(random, seeds, problems, by_seed, by_problem, rest):
    return (
        0.5
        + random.normal(0, by_seed, (seeds, 1))
        + random.normal(0, by_problem, (1, problems))
        + random.normal(0, rest, (seeds, problems))
    )


def test_where_only_seeds_differ_it_is_the_t_interval_over_seeds():
    values = draw(np.random.default_rng(0), 5, 400, 0.1, 0, 1e-4)
    found, usual = crossed(values), over_seeds(values.mean(1))
    assert found.low == pytest.approx(usual.low, abs=2e-3)
    assert found.high == pytest.approx(usual.high, abs=2e-3)


def test_where_only_problems_differ_it_is_the_t_interval_over_problems():
    values = draw(np.random.default_rng(1), 5, 60, 0, 0.2, 1e-6)
    low, high = stats.t.interval(0.95, 59, values.mean(), stats.sem(values.mean(0)))
    found = crossed(values)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 30), (30, 1)])
def test_one_row_or_one_column_is_a_plain_sample(shape):
    values = np.random.default_rng(2).random(shape)
    low, high = stats.t.interval(0.95, 29, values.mean(), stats.sem(values.ravel()))
    assert crossed(values)[1:3] == pytest.approx((low, high))


def test_the_interval_covers_new_seeds_and_new_problems():
    random = np.random.default_rng(3)
    found = [crossed(draw(random, 5, 40, 0.05, 0.2, 0.1)) for _ in range(1000)]
    covered = np.mean([v.low <= 0.5 <= v.high for v in found])
    assert 0.925 < covered < 0.975
    # A resampling of problems alone, as benchmarks are usually given, would not.
    naive = np.mean([abs(v.mean - 0.5) < 1.96 * 0.2 / math.sqrt(40) for v in found])
    assert naive < covered - 0.02


def test_the_p_value_and_the_interval_agree():
    random = np.random.default_rng(4)
    for _ in range(200):
        found = crossed(draw(random, 4, 10, 0.2, 0.2, 0.2) - 0.5)
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)


def test_values_without_any_spread():
    assert crossed(np.full((3, 4), 0.7)) == (0.7, 0.7, 0.7, 0.0)
    assert crossed(np.zeros((3, 4))) == (0, 0, 0, 1.0)
    assert math.isnan(over_seeds([0.3]).low)


def test_shares_stay_shares():
    found = accuracy(np.array([[1.0, 1, 1, 0.9], [1, 1, 1, 1.0]]))
    assert found.high == 1.0


def test_holm_against_the_definition():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    mixed = holm([math.nan, 0.02])
    assert math.isnan(mixed[0])
    assert mixed[1] == 0.02


def test_the_cost_to_reach_an_accuracy():
    assert cost_to_reach([0, 10, 20], [0.2, 0.4, 0.8], 0.6) == pytest.approx(15)
    assert cost_to_reach([5, 10], [0.7, 0.8], 0.6) == 5
    assert cost_to_reach([0, 10], [0.2, 0.4], 0.6) == math.inf
