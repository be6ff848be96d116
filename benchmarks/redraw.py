"""Draw again, in today's style, the pictures whose numbers are in benchmarks/results.

    python benchmarks/redraw.py

No run is made. The pictures of docs/ have scripts of their own: objectives.py, flow.py, diagnostics.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import arithmetic
import matplotlib as mpl
import race
from matplotlib.figure import Figure

from nft_lightning.common.pictures import STYLE, encoded
from nft_lightning.compare.figures import against_baseline
from nft_lightning.stats.intervals import Interval

RESULTS = Path(__file__).with_name("results")


def results(folder: str, name: str = "results") -> Any:
    return json.loads((RESULTS / folder / f"{name}.json").read_text())


def differences(folder: str) -> Figure:
    """Draw a report's differences to its baseline from its comparison.json."""
    found = results(folder, "comparison")
    pairs = [
        SimpleNamespace(**pair) for pair in found["differences"] if pair["first"] == found["baseline"]
    ]
    for pair in pairs:
        pair.final = Interval(**pair.final)
        pair.curve = Interval(**pair.curve)
    shown: Any = SimpleNamespace(
        against_baseline=pairs, runs=found["runs"], baseline=found["baseline"], k=found["k"]
    )
    with mpl.rc_context(STYLE):
        return against_baseline(shown)


def main() -> None:
    engines = ["rollout=hf", "rollout=vllm"]
    pictures = {
        "default/curves": arithmetic.draw(results("default")),
        "vllm/curves": arithmetic.draw(results("vllm"), engines),
        "against_trl/curves": race.draw(results("against_trl")["runs"]),
        "compare_all/figures/against_baseline": differences("compare_all"),
    }
    for name, figure in pictures.items():
        (RESULTS / f"{name}.png").write_bytes(encoded(figure, "png"))


if __name__ == "__main__":
    main()
