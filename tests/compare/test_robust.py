from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nft_lightning.stats.robust import bootstrapped, improvement, interquartile_mean


def test_the_interquartile_mean_by_hand():
    assert interquartile_mean([7, 0, 1, 100, 4, 2, 3, -50]) == pytest.approx((1 + 2 + 3 + 4) / 4)
    # A quarter of five is one, rounded down; a quarter of three is none.
    assert interquartile_mean([0.0, 0.5, 0.3, 0.4, 1.0]) == pytest.approx(0.4)
    assert interquartile_mean([0.0, 0.5, 1.0]) == pytest.approx(0.5)


def test_one_lost_seed_does_not_move_the_interquartile_mean():
    assert interquartile_mean([0.0, 0.8, 0.8, 0.8]) == pytest.approx(0.8)


def test_the_probability_of_improvement_by_hand():
    # 1 > 0, 1 < 2, 2 > 0, 2 = 2
    assert improvement([1, 2], [0, 2]) == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert improvement([3, 4], [1, 2]) == 1
    assert improvement([1, 2], [1, 2]) == 0.5


def test_the_probability_of_improvement_is_mann_whitneys():
    random = np.random.default_rng(0)
    one, two = random.integers(0, 9, 7), random.integers(0, 9, 5)
    assert improvement(one, two) == pytest.approx(stats.mannwhitneyu(one, two).statistic / 35)


def test_the_interval_is_that_of_all_resamples():
    scores = [0.1, 0.4, 0.5, 0.9]
    drawn = itertools.product(scores, repeat=4)
    low, high = np.quantile([interquartile_mean(d) for d in drawn], (0.025, 0.975))
    found = bootstrapped(interquartile_mean, scores)
    assert found.mean == pytest.approx(0.45)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)
    assert found.low < 0.2 < 0.8 < found.high


def test_each_algorithm_is_drawn_from_its_own_seeds():
    # Whatever is drawn, every run of the first is above every run of the second.
    assert bootstrapped(improvement, [0.8, 0.9, 0.7], [0.1, 0.2])[:3] == (1, 1, 1)
    found = bootstrapped(improvement, [0.0, 1.0], [0.5, 0.5])
    # Both seeds drawn low, one of each, both high: a quarter, a half, a quarter of the time.
    assert found[:3] == (0.5, 0.0, 1.0)


def test_the_same_scores_give_the_same_interval():
    scores = [0.2, 0.3, 0.7]
    assert bootstrapped(interquartile_mean, scores) == bootstrapped(interquartile_mean, scores)


def test_one_seed_has_no_interval():
    found = bootstrapped(improvement, [0.5], [0.4, 0.3])
    assert found.mean == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)
