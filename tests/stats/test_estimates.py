from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from nft_lightning.stats.estimates import AnswerCounts, estimate, pass_at_k


@pytest.mark.parametrize("n", [1, 4, 7])
def test_pass_at_k_against_all_subsets(n):
    for right in range(n + 1):
        answers = [1] * right + [0] * (n - right)
        for k in range(1, n + 1):
            subsets = list(combinations(answers, k))
            brute = sum(any(s) for s in subsets) / len(subsets)
            ours = pass_at_k(torch.tensor([right]), torch.tensor([n]), k)
            assert ours.item() == pytest.approx(brute, abs=1e-9)


def test_the_interval_covers():
    rng = np.random.default_rng(0)
    hits, rounds = 0, 600
    for _ in range(rounds):
        skill = rng.beta(2, 2, size=80)
        right = rng.binomial(8, skill) / 8
        result = estimate(torch.tensor(right))
        hits += result.low <= 0.5 <= result.high
    assert 0.92 <= hits / rounds <= 0.98


def test_the_interval_stays_in_bounds_and_is_never_empty():
    for values in ([1.0] * 20, [0.0] * 20, [0.5]):
        result = estimate(torch.tensor(values))
        assert 0 <= result.low <= result.mean <= result.high <= 1
        assert result.high - result.low > 0.01
    assert np.isnan(estimate(torch.tensor([])).mean)


def test_counts_over_updates_and_doubled_problems():
    counts = AnswerCounts()
    four = torch.tensor([4, 4])
    counts.update(torch.tensor([0, 2]), torch.tensor([4, 0]), four, torch.tensor([1.0, 0.0]))
    counts.update(torch.tensor([1, 0]), torch.tensor([2, 4]), four, torch.tensor([0.5, 1.0]))
    found = counts.compute()
    assert found["avg_at_4"].item() == pytest.approx(0.5)
    assert found["pass_at_4"].item() == pytest.approx(2 / 3)
    assert found["maj_at_4"].item() == pytest.approx(0.5)
