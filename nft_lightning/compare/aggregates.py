"""Pictures of runs as wholes: interquartile means, chances of improvement, performance profiles."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from nft_lightning.common.pictures import INK, legend, look
from nft_lightning.compare.comparison import Comparison
from nft_lightning.compare.drawing import band, dot, shaded
from nft_lightning.compare.measures import final, score, stacked
from nft_lightning.stats.intervals import accuracy


def over_runs(comparison: Comparison) -> Figure:
    """Interquartile mean and mean of the runs at the end; chance of ending above the baseline."""
    levels = comparison.levels
    figure = Figure(figsize=(10, 0.9 + 0.32 * max(2, len(levels))), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    better = {d.second: d.improvement for d in comparison.against_baseline}
    right.axvline(0.5, color=INK, linewidth=0.8)
    for row, level in enumerate(levels):
        dot(left, level.middle, row, row)
        left.plot([level.final.mean], [row], marker="|", color=INK, markersize=10)
        if level.label in better:
            dot(right, better[level.label], row, row)
    left.set_title(f"avg@{comparison.k} at the end: interquartile mean of the runs, | mean")
    right.set_title(f"chance that a run ends above one of {comparison.baseline}")
    right.set_xlim(-0.03, 1.03)
    left.set_yticks(range(len(levels)), [v.label for v in levels])
    left.set_ylim(len(levels) - 0.5, -0.5)
    return figure


def profiles(comparison: Comparison) -> Figure:
    """Performance profiles at the end: shares of problems and of runs above each accuracy tau.

    A problem counts once per seed; the bands are 95 % over seeds and problems. Source: arXiv 2108.13264,
    section 4.2.
    """
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    steps = np.arange(comparison.k) / comparison.k
    for i, (label, runs) in enumerate(comparison.runs.items()):
        values = stacked(runs, final)
        levels = [accuracy((values > tau).astype(float)) for tau in steps]
        band(left, list(steps), levels, i, with_interval=shaded(comparison, label))
        scores = np.sort([score(r) for r in runs])
        above = 1 - np.arange(len(scores) + 1) / len(scores)
        right.step([0, *scores], above, where="post", **look(i, marked=False))
    left.set(xlabel="accuracy tau of a problem", ylabel="share above tau", ylim=(0, 1.02))
    right.set(xlabel="accuracy tau of a run")
    left.set_title("share of problems and seeds above tau")
    right.set_title("share of runs above tau")
    legend(figure, list(comparison.runs))
    return figure
