"""avg@k, pass@k and maj@k with intervals, as a torchmetrics metric."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A mean over problems with its 95 % interval."""

    mean: float
    low: float
    high: float


def pass_at_k(right: Tensor, samples: Tensor, k: int) -> Tensor:
    """Unbiased pass@k of each problem [P]: 1 - C(n - c, k) / C(n, k) (arXiv 2107.03374, Eq. 1)."""
    n, c = samples.double(), right.double()
    kk = torch.full_like(n, k)

    def log_choose(a: Tensor) -> Tensor:
        return torch.lgamma(a + 1) - torch.lgamma(kk + 1) - torch.lgamma((a - kk).clamp(min=0) + 1)

    miss = (log_choose((n - c).clamp(min=k)) - log_choose(n)).exp()
    return torch.where(n - c < k, torch.ones_like(n), 1 - miss)


def estimate(values: Tensor) -> Estimate:
    """Mean of per-problem values [P] in [0, 1] with a Wilson interval on the effective sample size.

    Problems are the independent units: the standard error comes from the spread between them and
    covers the samples within each. The effective size is ``m (1 - m) / se^2``, and at least P;
    Wilson's form keeps the interval inside [0, 1] near its ends.
    """
    count = len(values)
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(values.double().mean())
    variance = float(values.double().var(unbiased=True)) / count if count > 1 else 0.0
    size = float(count)
    if variance > 0 and 0 < mean < 1:
        size = max(size, mean * (1 - mean) / variance)
    centre = (mean + Z95**2 / (2 * size)) / (1 + Z95**2 / size)
    spread = mean * (1 - mean) / size + Z95**2 / (4 * size**2)
    half = Z95 * math.sqrt(spread) / (1 + Z95**2 / size)
    return Estimate(mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)))


class AnswerCounts(Metric):
    """Right answers, samples and votes by problem, gathered over ranks."""

    full_state_update = False
    index: Any
    right: Any
    samples: Any
    voted: Any

    def __init__(self) -> None:
        super().__init__()
        for name in ("index", "right", "samples", "voted"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, right: Tensor, samples: Tensor, voted: Tensor) -> None:
        """Problem indices [P], right answers [P], samples [P], results of the vote [P] (maj@k)."""
        self.index.append(index)
        self.right.append(right)
        self.samples.append(samples)
        self.voted.append(voted)

    def counts(self) -> tuple[Tensor, Tensor, Tensor]:
        """(right, samples, voted), each [P] in problem order; a problem of two ranks counts once."""

        def joined(state: list[Tensor] | Tensor) -> Tensor:
            return state if isinstance(state, Tensor) else torch.cat(state)

        index = joined(self.index)
        # The host has float64, whatever the device.
        columns = [joined(state).cpu() for state in (self.right, self.samples, self.voted)]
        _, inverse = torch.unique(index, return_inverse=True)
        first = torch.full((int(inverse.max()) + 1,), len(index)).scatter_reduce(
            0, inverse.cpu(), torch.arange(len(index)), "amin"
        )
        right, samples, voted = (column[first] for column in columns)
        return right, samples, voted

    def compute(self) -> dict[str, Tensor]:
        """avg@k, pass@k and maj@k with the ends of their intervals."""
        right, samples, voted = self.counts()
        k = int(samples.min())
        values = {
            "avg": right.double() / samples,
            "pass": pass_at_k(right, samples, k),
            "maj": voted.double(),
        }
        found = {}
        for name, per_problem in values.items():
            result = estimate(per_problem)
            found[f"{name}_at_{k}"] = torch.tensor(result.mean)
            found[f"{name}_at_{k}_low"] = torch.tensor(result.low)
            found[f"{name}_at_{k}_high"] = torch.tensor(result.high)
        return found
