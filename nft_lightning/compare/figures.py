"""The report's pictures: one function a figure, the same for the page and for papers."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nft_lightning.compare.comparison import Comparison, passed, stacked
from nft_lightning.compare.runs import AXES, Run
from nft_lightning.stats.intervals import Interval, accuracy, over_seeds

# Told apart by people who see no red or green, too (Okabe and Ito); then the same, dashed and dotted.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
DASHES = ("-", "--", ":", "-.")
AXIS_NAMES = {axis: f"training {axis}" for axis in AXES}
INK = "#010203"  # replaced by the page's own text colour
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
STYLE: Any = {
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "nft_lightning",
    "pdf.fonttype": 42,
}


def draw_all(comparison: Comparison) -> dict[str, Figure]:
    """Return every figure by its file name."""
    with mpl.rc_context(STYLE):
        return {name: make(comparison) for name, make in FIGURES.items()}


def encoded(figure: Figure, kind: str) -> bytes:
    """Return the figure as a file of that kind: svg (its text in the page's colour), png or pdf."""
    buffer = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=160, transparent=kind == "svg", metadata=undated)
    if kind != "svg":
        return buffer.getvalue()
    text = buffer.getvalue().decode()
    return text[text.index("<svg") :].replace(INK, "currentColor").encode()


def curves(comparison: Comparison) -> Figure:
    """Held-out avg@k against problems, tokens and seconds; bands are 95 % over seeds and problems."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for axis, panel in zip(AXES, panels, strict=True):
        for i, runs in enumerate(comparison.runs.values()):
            count = min(len(r.evaluations) for r in runs)
            levels = [accuracy(stacked(runs, accuracy_at(j))) for j in range(count)]
            at = [float(np.mean([r.evaluations[j].axes[axis] for r in runs])) for j in range(count)]
            band(panel, at, levels, i)
        panel.set_xlabel(AXIS_NAMES[axis])
        panel.set_ylim(bottom=0)
        thousands(panel)
    panels[0].set_ylabel(f"held-out avg@{comparison.k}")
    legend(figure, comparison)
    return figure


def accuracy_at(index: int) -> Callable[[Run], Any]:
    """Return the accuracies [P] of a run's evaluation number ``index``."""
    return lambda run: run.evaluations[index].accuracy


def against_baseline(comparison: Comparison) -> Figure:
    """Paired differences to the baseline: final accuracy and mean of the curve."""
    found = [d for d in comparison.differences if d.first == comparison.baseline]
    figure = Figure(figsize=(10, 0.8 + 0.32 * max(2, len(found))), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    order = list(comparison.runs)
    for panel, measure, title in zip(
        panels, ("final", "curve"), ("at the end", "mean of the curve"), strict=True
    ):
        panel.axvline(0, color=INK, linewidth=0.8)
        for row, difference in enumerate(found):
            dot(panel, getattr(difference, measure), row, order.index(difference.second))
        panel.set_title(f"avg@{comparison.k} less that of {comparison.baseline}, {title}")
        panel.set_yticks(range(len(found)), [d.second for d in found])
    if found:
        panels[0].invert_yaxis()
    return figure


def pass_curves(comparison: Comparison) -> Figure:
    """Final pass@n for n = 1 .. k, and the mean response length against accuracy."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = sorted({min(2**i, comparison.k) for i in range(comparison.k.bit_length() + 1)})
    for i, runs in enumerate(comparison.runs.values()):
        levels = [accuracy(stacked(runs, passed_at(n))) for n in counts]
        band(left, counts, levels, i)
        points = [[(e.length_mean_tokens, e.accuracy.mean()) for e in r.evaluations] for r in runs]
        count = min(len(p) for p in points)
        path = np.mean([p[:count] for p in points], axis=0)
        right.plot(path[:, 0], path[:, 1], marker="o", markersize=3, **look(i))
    left.set_xscale("log", base=2)
    left.set_xticks(counts, [str(n) for n in counts])
    left.set(xlabel="answers n", ylabel="pass@n at the end", ylim=(None, 1.02))
    right.set(xlabel="mean response length, tokens", ylabel=f"avg@{comparison.k}", ylim=(0, None))
    legend(figure, comparison)
    return figure


def passed_at(n: int) -> Callable[[Run], Any]:
    """Final pass@n [P] of a run."""
    return lambda run: passed(run.final, n)


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
        for i, runs in enumerate(comparison.runs.values()):
            series = [r.metrics[name] for r in runs if name in r.metrics]
            if series:
                count = min(len(s) for s in series)
                at = [float(np.mean([s[j][0] for s in series])) for j in range(count)]
                band(panel, at, [over_seeds([s[j][1] for s in series]) for j in range(count)], i, False)
        panel.set_title(WATCHED[name])
        thousands(panel)
    for panel in panels[max(0, len(names) - 3) : len(names)]:
        panel.set_xlabel(AXIS_NAMES["problems"])
        panel.tick_params(labelbottom=True)
    legend(figure, comparison)
    return figure


FIGURES: dict[str, Callable[[Comparison], Figure]] = {
    "curves": curves,
    "against_baseline": against_baseline,
    "pass_at_n": pass_curves,
    "diagnostics": watched,
}


def look(index: int) -> dict[str, Any]:
    """Colour and dashes of the label at that place."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
        "linewidth": 1.4,
    }


def band(
    panel: Axes, at: Sequence[float], levels: Sequence[Interval], index: int, marked: bool = True
) -> None:
    """A line with its interval."""
    shown = look(index)
    panel.plot(at, [v.mean for v in levels], marker="o" if marked else None, markersize=3, **shown)
    low, high = [v.low for v in levels], [v.high for v in levels]
    panel.fill_between(at, low, high, color=shown["color"], alpha=0.12, linewidth=0)


def dot(panel: Axes, interval: Interval, row: int, index: int) -> None:
    """A mean and its interval on one row."""
    colour = look(index)["color"]
    panel.plot([interval.low, interval.high], [row, row], color=colour, linewidth=2)
    panel.plot([interval.mean], [row], marker="o", color=colour)


def thousands(panel: Axes) -> None:
    """Large counts as 50k."""
    panel.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}")


def legend(figure: Figure, comparison: Comparison) -> None:
    """One legend for all panels, below them."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **look(i)) for i, label in enumerate(comparison.runs)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles)))
