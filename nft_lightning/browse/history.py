"""r_q of one problem over a run, as coordinates of a small figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nft_lightning.browse.records import Found

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 600, 150, 40, 12, 28


@dataclass(frozen=True)
class Curve:
    """Where a part's groups are: (x, y, group) points a part, and the first and last update."""

    points: dict[str, list[tuple[float, float, Found]]]
    first: int
    last: int


def curve(history: Sequence[Found]) -> Curve:
    """Along the updates behind the policy that answered, so that both parts share an axis."""
    versions = [f.version for f in history] or [0]
    first, last = min(versions), max(versions)
    wide = WIDTH - LEFT - 12
    high = HEIGHT - TOP - BOTTOM

    def place(f: Found) -> tuple[float, float, Found]:
        along = (f.version - first) / (last - first) if last > first else 0.5
        return round(LEFT + wide * along, 1), round(TOP + high * (1 - f.accuracy), 1), f

    points: dict[str, list[tuple[float, float, Found]]] = {}
    for f in history:
        points.setdefault(f.part, []).append(place(f))
    return Curve(points, first, last)
