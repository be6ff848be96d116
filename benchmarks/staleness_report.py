"""What staleness costs each algorithm: a table and a figure.

    python benchmarks/staleness_report.py RUNS --out OUT

Reads the runs in RUNS/STALENESS/ALGORITHM_seedN. Writes ``results.json``, ``results.md`` and the
figure. Intervals are 95 % over seeds; changes against staleness 0 are paired by seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from measuring import facts, save

from nft_lightning.common.pictures import STYLE, encoded, legend, look
from nft_lightning.common.text import accuracy_name
from nft_lightning.stats.intervals import over_seeds

Finals = dict[str, dict[int, dict[int, float]]]


def finals(runs: Path) -> Finals:
    """Final accuracies by algorithm, staleness and seed."""
    found: Finals = {}
    for path in sorted(runs.glob("*/*_seed*/summary.json")):
        algorithm, _, seed = path.parent.name.rpartition("_seed")
        after = json.loads(path.read_text())["after"]
        accuracy = after[accuracy_name(after)]
        found.setdefault(algorithm, {}).setdefault(int(path.parent.parent.name), {})[int(seed)] = (
            accuracy
        )
    return found


def row(algorithm: str, by_staleness: dict[int, dict[int, float]]) -> str:
    """A line of the table: the accuracy without staleness, and what each staleness changes."""
    fresh = by_staleness[0]
    cells = [f"{over_seeds(list(fresh.values())).mean:.3f}"]
    for staleness in sorted(set(by_staleness) - {0}):
        stale = by_staleness[staleness]
        pairs = [stale[seed] - fresh[seed] for seed in stale.keys() & fresh.keys()]
        change = over_seeds(pairs)
        cells.append(f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]")
    return f"| `{algorithm}` | {' | '.join(cells)} |"


def draw(found: Finals) -> Figure:
    """Final accuracy against staleness, one line per algorithm."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 4), layout="constrained")
        panel = figure.subplots()
        for i, by_staleness in enumerate(found.values()):
            places = sorted(by_staleness)
            levels = [over_seeds(list(by_staleness[place].values())) for place in places]
            means = [level.mean for level in levels]
            errors = [[m.mean - m.low for m in levels], [m.high - m.mean for m in levels]]
            at = [place + 0.06 * i for place in range(len(places))]
            panel.errorbar(at, means, errors, capsize=2, **look(i))
        panel.set_xticks(range(len(places)), [str(place) for place in places])
        panel.set_xlabel("staleness in rollouts")
        panel.set_ylabel("held-out accuracy at the end")
        legend(figure, list(found))
    return figure


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found = finals(args.runs)
    places = sorted({place for by_staleness in found.values() for place in by_staleness})
    made = facts()
    head = " | ".join(f"staleness {place}" for place in places)
    lines = [f"| algorithm | {head} |", "|---" * (len(places) + 1) + "|"]
    lines += [row(algorithm, by_staleness) for algorithm, by_staleness in found.items()]
    lines += ["", f"commit {made['commit']}, {made['date']}, {made['machine']}"]
    save(args.out, "\n".join(lines) + "\n", {**made, "accuracy": found})
    figure = draw(found)
    for kind in ("svg", "png"):
        (args.out / f"staleness.{kind}").write_bytes(encoded(figure, kind))


if __name__ == "__main__":
    main()
