"""How the report's pictures look: colours, lines with bands, dots, legends, files."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nft_lightning.stats.intervals import Interval

# Distinct also for people who see no red or green (Okabe and Ito); then the same, dashed and dotted.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
DASHES = ("-", "--", ":", "-.")
INK = "#010203"  # replaced by the page's own text colour
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


def dot(panel: Axes, interval: Interval, row: float, index: int, filled: bool = True) -> None:
    """A mean and its interval on one row."""
    colour = look(index)["color"]
    inside = colour if filled else panel.get_facecolor()
    panel.plot([interval.low, interval.high], [row, row], color=colour, linewidth=2)
    panel.plot([interval.mean], [row], marker="o", color=colour, markerfacecolor=inside)


def thousands(panel: Axes) -> None:
    """Large counts as 50k."""
    panel.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}")


def legend(figure: Figure, labels: Sequence[str], starred: Collection[str] = (), note: str = "") -> None:
    """One legend for all panels, below them; ``note`` explains the star of the ``starred``."""
    handles = [
        Line2D([], [], label=f"{label} *" if label in starred else label, **look(i))
        for i, label in enumerate(labels)
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(8, len(handles)),
        title=note if starred else None,
        title_fontsize="small",
    )
