"""What is measured of one run: numbers by problem [P], and the cost of an accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from nft_lightning.compare.runs import Evaluation, Run
from nft_lightning.stats.estimates import pass_at_k
from nft_lightning.stats.intervals import Values, cost_to_reach


def final(run: Run) -> Values:
    """Accuracy by problem [P] at the end."""
    return run.final.accuracy


def gained(run: Run) -> Values:
    """Accuracy by problem [P] at the end minus that before the first rollout."""
    return final(run) - run.evaluations[0].accuracy


def accuracy_at(index: int) -> Callable[[Run], Values]:
    """Return what gives the accuracies [P] of a run's evaluation number ``index``."""
    return lambda run: run.evaluations[index].accuracy


def height(run: Run) -> Values:
    """Mean accuracy by problem [P] over the evaluations after the start: steadier than the last."""
    later = run.evaluations[1:] or run.evaluations
    return np.mean([e.accuracy for e in later], axis=0)


def score(run: Run) -> float:
    """Return the accuracy over all problems at the end: one figure per run."""
    return float(final(run).mean())


def passed(evaluation: Evaluation, k: int) -> Values:
    """Unbiased pass@k by problem [P]."""
    right, samples = torch.from_numpy(evaluation.right), torch.from_numpy(evaluation.samples)
    return pass_at_k(right, samples, k).numpy()


def stacked(group: Sequence[Run], of: Callable[[Run], Values]) -> Values:
    """Return [S, P]: one row a seed."""
    return np.stack([of(r) for r in group])


def reach(run: Run, axis: str, target: float) -> float:
    """Return what a run had spent on ``axis`` when its accuracy first met ``target``; inf if it never
    did.
    """
    costs = [e.axes[axis] for e in run.evaluations]
    return cost_to_reach(costs, [float(e.accuracy.mean()) for e in run.evaluations], target)
