"""Intervals over seeds and problems, paired differences, and the correction for many of them.

Every algorithm answers the same problems from the same seeds, so its accuracies are a table
``[S, P]`` of seeds by problems. Both are samples of what could have been drawn, and an interval that
lets only one of them vary is too narrow. Letters: S seeds, P problems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean, its 95 % interval, and the two-sided p-value of its being 0."""

    mean: float
    low: float
    high: float
    p_value: float


def crossed(values: Values) -> Interval:
    """Return the mean of ``values`` [S, P] as an estimate for new seeds and new problems.

    Two-way random effects without replication (Satterthwaite, Biometrics 2, 1946; Searle, Casella and
    McCulloch, Variance Components, ch. 4): the variance of the mean is
    ``(s_seed P + s_problem S + s_rest) / (S P)`` with each component estimated from the mean squares and
    not below 0, and Student's t has Satterthwaite's degrees of freedom. The samples of a problem
    need no term of their own: their noise is in ``s_rest``. With one seed, or one problem, only the
    other varies.
    """
    seeds, problems = values.shape
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return student(float(values.flat[0]), 0.0 if values.size > 1 else math.nan, 1)
    if 1 in (seeds, problems):
        flat = values.ravel()
        error = float(flat.std(ddof=1)) / math.sqrt(flat.size) if flat.size > 1 else math.nan
        return student(mean, error, flat.size - 1)
    by_seed, by_problem = values.mean(1), values.mean(0)
    square_seed = problems * float(((by_seed - mean) ** 2).sum()) / (seeds - 1)
    square_problem = seeds * float(((by_problem - mean) ** 2).sum()) / (problems - 1)
    rest = values - by_seed[:, None] - by_problem[None, :] + mean
    freedom = (seeds - 1) * (problems - 1)
    square_rest = float((rest**2).sum()) / freedom
    total = max(square_seed - square_rest, 0) + max(square_problem - square_rest, 0) + square_rest
    parts = square_seed**2 / (seeds - 1) + square_problem**2 / (problems - 1) + square_rest**2 / freedom
    degrees = max(total**2 / parts, min(seeds, problems) - 1)
    return student(mean, math.sqrt(total / (seeds * problems)), degrees)


def accuracy(values: Values) -> Interval:
    """``crossed`` for shares [S, P]: an interval ends at 0 and at 1."""
    found = crossed(values)
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))


def over_seeds(values: Sequence[float]) -> Interval:
    """Student's interval of a figure that each run has one of, such as tokens."""
    found = np.asarray(values, dtype=np.float64)
    error = float(found.std(ddof=1)) / math.sqrt(found.size) if found.size > 1 else math.nan
    return student(float(found.mean()), error, found.size - 1)


def student(mean: float, error: float, degrees: float) -> Interval:
    """Student's interval and p-value; without spread to tell it by, both are nan."""
    if math.isnan(error):
        return Interval(mean, math.nan, math.nan, math.nan)
    if error == 0:
        return Interval(mean, mean, mean, float(mean == 0))
    half = float(stats.t.ppf(0.975, degrees)) * error
    return Interval(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, degrees)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values that may be read together (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    count = sum(not math.isnan(p) for p in p_values)
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order[:count]):
        largest = max(largest, min(1.0, (count - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def cost_to_reach(costs: Sequence[float], accuracies: Sequence[float], target: float) -> float:
    """Return the cost at which a curve, straight between its points, first meets ``target``; inf if
    never.
    """
    if accuracies[0] >= target:
        return costs[0]
    for i in range(1, len(costs)):
        if accuracies[i] >= target:
            share = (target - accuracies[i - 1]) / (accuracies[i] - accuracies[i - 1])
            return costs[i - 1] + share * (costs[i] - costs[i - 1])
    return math.inf
