"""Interquartile mean and probability of improvement, with bootstrap intervals over seeds.

Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice,
arXiv 2108.13264. A score is one figure of one run, such as its accuracy on the held-out problems.
The bootstrap is stratified: each algorithm's seeds are drawn again from its own. Letter: S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from nft_lightning.stats.intervals import Interval

RESAMPLES = 5000


def interquartile_mean(scores: Any, axis: int = -1) -> Any:
    """Return the mean without the lowest and the highest quarter of ``scores``, each rounded down.

    Below four scores that is the mean.
    """
    return stats.trim_mean(scores, 0.25, axis=axis)


def improvement(better: Any, worse: Any, axis: int = -1) -> Any:
    """Return how often a run of ``better`` scores above one of ``worse``; a tie counts as half.

    All runs of the one meet all runs of the other: Mann-Whitney's U divided by the number of pairs.
    """
    first = np.expand_dims(np.moveaxis(np.asarray(better), axis, -1), -1)
    second = np.expand_dims(np.moveaxis(np.asarray(worse), axis, -1), -2)
    return ((first > second) + 0.5 * (first == second)).mean((-2, -1))


def bootstrapped(statistic: Callable[..., Any], *samples: Sequence[float]) -> Interval:
    """Return ``statistic`` of the samples and its 95 % percentile interval; no p-value.

    The same samples give the same interval. With a sample of one seed there is none.
    """
    value = float(statistic(*samples))
    if min(len(s) for s in samples) < 2:
        return Interval(value, math.nan, math.nan, math.nan)
    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high), math.nan)
