"""What the report's pictures add to the common style: intervals as bands and as dots."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from nft_lightning.common.pictures import MOST_BANDS, look
from nft_lightning.compare.comparison import Comparison
from nft_lightning.stats.intervals import Interval


def shaded(comparison: Comparison, label: str) -> bool:
    """Return whether a curve has its band: of many only the baseline's, since bands hide each other."""
    return len(comparison.runs) <= MOST_BANDS or label == comparison.baseline


def band(
    panel: Axes,
    at: Sequence[float],
    levels: Sequence[Interval],
    index: int,
    marked: bool = True,
    with_interval: bool = True,
) -> None:
    """Draw a line of means, and the band of its intervals."""
    shown = look(index, marked)
    panel.plot(at, [v.mean for v in levels], **shown)
    if not with_interval:
        return
    low, high = [v.low for v in levels], [v.high for v in levels]
    panel.fill_between(at, low, high, color=shown["color"], alpha=0.15, linewidth=0)


def dot(panel: Axes, interval: Interval, row: float, index: int, filled: bool = True) -> None:
    """Draw a mean and its interval on one row."""
    colour = look(index)["color"]
    inside = colour if filled else panel.get_facecolor()
    panel.plot([interval.low, interval.high], [row, row], color=colour, linewidth=2)
    panel.plot([interval.mean], [row], marker="o", color=colour, markerfacecolor=inside)
