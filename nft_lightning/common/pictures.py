"""One style for all pictures: colours, dashes, markers, labels at the ends of curves, files.

Every curve has a colour, dashes and a marker of its own, so that curves stay distinct for people who
see no red or green, and in grey print.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito's first three, and four more; each has a contrast of 3 on white and on the dark page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#A8457F", "#8C6D31", "#8077FF", "#767676")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.2, 1.4)),
    (0, (6, 2, 1.2, 2)),
    (0, (9, 3)),
    (0, (3, 1.5, 1.2, 1.5, 1.2, 1.5)),
    (0, (14, 2, 3, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# As many curves have their labels at their ends; more have a legend.
MOST_DIRECT_LABELS = 6
# As many curves have a band each; of more only the one that the others are compared with.
MOST_BANDS = 2
FONT_POINTS = 9
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
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "font.size": FONT_POINTS,
    "axes.titlesize": FONT_POINTS,
    "legend.frameon": False,
    "legend.handlelength": 3.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "nft_lightning",
    "pdf.fonttype": 42,
}


def look(index: int, marked: bool = True) -> dict[str, Any]:
    """Return colour, dashes and marker of the curve at that place, as arguments of ``plot``."""
    shift = index // len(COLOURS)
    found = {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[(index + shift) % len(DASHES)],
        "linewidth": 1.5,
    }
    if marked:
        found |= {"marker": MARKERS[index % len(MARKERS)], "markersize": 3.5}
    return found


def label_ends(panel: Axes, ends: Mapping[str, float], looks: Sequence[int] | None = None) -> None:
    """Write each curve's label right of the panel, at the height of the curve's end, without overlaps.

    Args:
        panel: its limits must be final.
        ends: the last value of each curve, by label.
        looks: the place of each curve in :func:`look`; by default in order.
    """
    low, high = panel.get_ylim()
    figure = panel.get_figure()
    assert isinstance(figure, Figure)
    grid = panel.get_gridspec()
    rows = grid.nrows if grid else 1
    height_points = 0.75 * figure.get_figheight() * 72 / rows
    places = looks if looks is not None else range(len(ends))
    shown = sorted(
        ((value - low) / (high - low), label, place)
        for (label, value), place in zip(ends.items(), places, strict=True)
    )
    heights = spread([height for height, _, _ in shown], 1.15 * FONT_POINTS / height_points)
    for height, (_, label, place) in zip(heights, shown, strict=True):
        panel.annotate(
            label,
            xy=(1, height),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=look(place)["color"],
            annotation_clip=False,
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return rising heights with at least ``gap`` between neighbours, moved as one block where crowded.

    Each crowded block keeps its mean.
    """
    blocks: list[tuple[float, int]] = []  # the middle of a block, and how many it holds
    for height in heights:
        middle, count = height, 1
        while blocks and middle - blocks[-1][0] < gap * (count + blocks[-1][1]) / 2:
            before, earlier = blocks.pop()
            middle = (middle * count + before * earlier) / (count + earlier)
            count += earlier
        blocks.append((middle, count))
    return [middle + gap * (i - (count - 1) / 2) for middle, count in blocks for i in range(count)]


def legend(figure: Figure, labels: Sequence[str], note: str = "", marked: bool = True) -> None:
    """Draw one legend for all panels, below them, with a note above it."""
    handles = [Line2D([], [], label=label, **look(i, marked)) for i, label in enumerate(labels)]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(8, len(handles)),
        title=note or None,
        title_fontsize="small",
    )


def thousands(panel: Axes) -> None:
    """Write large counts as 50k."""
    panel.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}")


def encoded(figure: Figure, kind: str, dots_per_inch: int = 160) -> bytes:
    """Return the figure as a file of that kind: svg (its text in the page's colour), png or pdf."""
    buffer = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer, format=kind, dpi=dots_per_inch, transparent=kind == "svg", metadata=undated
        )
    if kind != "svg":
        return buffer.getvalue()
    text = buffer.getvalue().decode()
    return text[text.index("<svg") :].replace(INK, "currentColor").encode()
