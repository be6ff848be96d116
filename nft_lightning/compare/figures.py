"""The report's pictures: one function per figure, the same for the page and for papers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from nft_lightning.common.pictures import (
    INK,
    MOST_DIRECT_LABELS,
    STYLE,
    label_ends,
    legend,
    look,
    thousands,
)
from nft_lightning.compare.aggregates import over_runs, profiles
from nft_lightning.compare.comparison import SIGNIFICANT, Comparison
from nft_lightning.compare.drawing import band, dot, shaded
from nft_lightning.compare.measures import accuracy_at, passed, stacked
from nft_lightning.compare.runs import AXES, Run
from nft_lightning.stats.intervals import Interval, accuracy, over_seeds

AXIS_NAMES = {axis: f"training {axis}" for axis in AXES}
WATCHED = {
    "policy/entropy_nats": "entropy, nats",
    "rollout/response_length_mean_tokens": "response length, tokens",
    "objective/ratio_right_p90": "ratio, right tokens, 90th percentile",
    "objective/ratio_wrong_p10": "ratio, wrong tokens, 10th percentile",
    "objective/negative_clamped_fraction": "wrong tokens at the negative floor",
    "objective/clipped_high_fraction": "tokens clipped above",
    "objective/wrong_gradient_fraction": "gradient from wrong answers",
    "objective/kl_old_new": "KL(old, new)",
    "optimizer/gradient_norm": "gradient norm",
}


def draw_all(comparison: Comparison) -> dict[str, Figure]:
    """Return every figure by its file name."""
    with mpl.rc_context(STYLE):
        return {name: make(comparison) for name, make in FIGURES.items()}


def curves(comparison: Comparison) -> Figure:
    """Draw held-out avg@k against problems, tokens and seconds; bands: 95 % over seeds and problems."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    ends: dict[str, float] = {}
    for axis, panel in zip(AXES, panels, strict=True):
        for i, (label, runs) in enumerate(comparison.runs.items()):
            count = min(len(r.evaluations) for r in runs)
            levels = [accuracy(stacked(runs, accuracy_at(j))) for j in range(count)]
            at = [float(np.mean([r.evaluations[j].axes[axis] for r in runs])) for j in range(count)]
            band(panel, at, levels, i, with_interval=shaded(comparison, label))
            ends[label] = levels[-1].mean
        panel.set_xlabel(AXIS_NAMES[axis])
        panel.set_ylim(bottom=0)
        thousands(panel)
    panels[0].set_ylabel(f"held-out avg@{comparison.k}")
    starred = [d.second for d in comparison.against_baseline if d.curve_p < SIGNIFICANT]
    note = f"* mean of the curve significantly different from {comparison.baseline}'s, p corrected"
    shown = {f"{label} *" if label in starred else label: end for label, end in ends.items()}
    if len(shown) > MOST_DIRECT_LABELS:
        legend(figure, list(shown), note if starred else "")
    else:
        label_ends(panels[-1], shown)
        if starred:
            figure.supxlabel(note, fontsize="small")
    return figure


def against_baseline(comparison: Comparison) -> Figure:
    """Draw paired differences to the baseline: final accuracy and mean of the curve, best first.

    A filled dot is significant after the correction for all pairs.
    """
    found = sorted(comparison.against_baseline, key=lambda d: -d.curve.mean)
    figure = Figure(figsize=(10, 1.1 + 0.32 * max(2, len(found))), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    order = list(comparison.runs)
    for panel, measure, title in zip(
        panels, ("final", "curve"), ("at the end", "mean over training"), strict=True
    ):
        panel.axvline(0, color=INK, linewidth=0.8)
        for row, d in enumerate(found):
            filled = getattr(d, f"{measure}_p") < SIGNIFICANT
            dot(panel, getattr(d, measure), row, order.index(d.second), filled)
        panel.set_title(f"avg@{comparison.k} minus that of {comparison.baseline}, {title}")
        panel.set_xlabel("worse \N{LEFTWARDS ARROW}    \N{RIGHTWARDS ARROW} better")
        panel.set_yticks(range(len(found)), [d.second for d in found])
    if found:
        panels[0].set_ylim(len(found) - 0.5, -0.5)
    figure.supxlabel(
        "lines: 95 % intervals; filled: significant after the correction for all pairs", fontsize="small"
    )
    return figure


def pass_curves(comparison: Comparison) -> Figure:
    """Draw final pass@n for n = 1 .. k, and the mean response length against accuracy.

    On the right a line begins at its large marker.
    """
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = sorted({min(2**i, comparison.k) for i in range(comparison.k.bit_length() + 1)})
    for i, (label, runs) in enumerate(comparison.runs.items()):
        levels = [accuracy(stacked(runs, passed_at(n))) for n in counts]
        band(left, counts, levels, i, with_interval=shaded(comparison, label))
        points = [[(e.length_mean_tokens, e.accuracy.mean()) for e in r.evaluations] for r in runs]
        count = min(len(p) for p in points)
        path = np.mean([p[:count] for p in points], axis=0)
        right.plot(path[:, 0], path[:, 1], **look(i))
        right.plot(path[:1, 0], path[:1, 1], **{**look(i), "markersize": 7})
    left.set_xscale("log", base=2)
    left.set_xticks(counts, [str(n) for n in counts])
    left.set(xlabel="answers n", ylabel="pass@n at the end", ylim=(0, 1.02))
    right.set(
        xlabel="mean response length, tokens (large marker: the start)",
        ylabel=f"avg@{comparison.k}",
        ylim=(0, None),
    )
    legend(figure, list(comparison.runs))
    return figure


def passed_at(n: int) -> Callable[[Run], Any]:
    """Final pass@n [P] of a run."""
    return lambda run: passed(run.final, n)


def above_zero(level: Interval) -> Interval:
    """Return an interval cut off at 0: nothing that is watched can be negative."""
    return level._replace(low=max(level.low, 0.0))


def watched(comparison: Comparison) -> Figure:
    """Return what training did inside: entropy, length, ratios, clamps, on equal axes."""
    names = [
        n for n in WATCHED if any(n in r.metrics for group in comparison.runs.values() for r in group)
    ]
    rows = max(1, -(-len(names) // 3))
    figure = Figure(figsize=(10, 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False, sharex=True).ravel()
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for name, panel in zip(names, panels, strict=False):
        for i, (label, runs) in enumerate(comparison.runs.items()):
            series = [r.metrics[name] for r in runs if name in r.metrics]
            if series:
                count = min(len(s) for s in series)
                at = [float(np.mean([s[j][0] for s in series])) for j in range(count)]
                levels = [above_zero(over_seeds([s[j][1] for s in series])) for j in range(count)]
                band(panel, at, levels, i, marked=False, with_interval=shaded(comparison, label))
        panel.set_title(WATCHED[name])
        thousands(panel)
    for panel in panels[max(0, len(names) - 3) : len(names)]:
        panel.set_xlabel(AXIS_NAMES["problems"])
        panel.tick_params(labelbottom=True)
    legend(figure, list(comparison.runs), marked=False)
    return figure


FIGURES: dict[str, Callable[[Comparison], Figure]] = {
    "curves": curves,
    "against_baseline": against_baseline,
    "over_runs": over_runs,
    "profiles": profiles,
    "pass_at_n": pass_curves,
    "diagnostics": watched,
}
