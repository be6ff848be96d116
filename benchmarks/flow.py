"""Draw docs/flow.svg: one epoch, from problems to the next policy.

python benchmarks/flow.py [OUT]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from nft_lightning.common.pictures import COLOURS, STYLE

BLUE, ORANGE = COLOURS[0], COLOURS[1]
OUT = Path(__file__).resolve().parents[1] / "docs" / "flow.svg"
METADATA = {".svg": {"Date": None}}
WIDTH, HEIGHT = 2.1, 0.95
# Place of the box, what happens, and the folder of nft_lightning/ that does it.
BOXES = {
    "problems": (0.0, 1.9, "problems", "problems/"),
    "engine": (2.8, 1.9, "K completions each", "engines/"),
    "verifier": (5.6, 1.9, "verdicts, rewards", "verifiers/"),
    "groups": (8.4, 1.9, "groups with a signal", "rollouts/"),
    "objective": (8.4, 0.0, "weights, advantages", "objectives/"),
    "batches": (5.6, 0.0, "optimizer batches", "batching/"),
    "step": (2.8, 0.0, "loss, gradient, step", "training/"),
    "policy": (0.0, 0.0, "policy", "policy/"),
}
RIGHT = [("problems", "engine"), ("engine", "verifier"), ("verifier", "groups")]
LEFT = [("objective", "batches"), ("batches", "step"), ("step", "policy")]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    with mpl.rc_context(STYLE):
        drawn().savefig(out, bbox_inches="tight", facecolor="white", metadata=METADATA.get(out.suffix))


def drawn() -> Figure:
    figure = Figure(figsize=(10.5, 3.4))
    axes = figure.subplots()
    for x, y, text, folder in BOXES.values():
        shape = FancyBboxPatch(
            (x, y),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0.02,rounding_size=0.12",
            fc="#eef4fa",
            ec=BLUE,
        )
        axes.add_patch(shape)
        axes.text(x + WIDTH / 2, y + 0.6, text, ha="center", va="center", fontsize=9.5, color="#111111")
        axes.text(x + WIDTH / 2, y + 0.25, folder, ha="center", va="center", fontsize=9, color="#555555")
    for first, second in RIGHT:
        arrow(axes, (BOXES[first][0] + WIDTH, 2.375), (BOXES[second][0], 2.375))
    for first, second in LEFT:
        arrow(axes, (BOXES[first][0], 0.475), (BOXES[second][0] + WIDTH, 0.475))
    arrow(axes, (9.45, 1.9), (9.45, 0.95))
    arrow(axes, (1.4, 0.95), (3.4, 1.9))
    axes.text(2.55, 1.3, "weight sync, checked", fontsize=9, color="#555555")
    axes.text(9.6, 1.4, "once per rollout", fontsize=9, color="#555555")
    axes.text(5.25, -0.3, "once per optimizer step", fontsize=9, color="#555555", ha="center")
    axes.set_xlim(-0.2, 11.2)
    axes.set_ylim(-0.55, 3.0)
    axes.axis("off")
    return figure


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 14, "color": ORANGE, "linewidth": 1.4}
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=3, shrinkB=3, **style))


if __name__ == "__main__":
    main()
