"""What a setting does to learning per sample on the embedded policy, by seeds in pairs.

    python benchmarks/learning.py --out benchmarks/results/learning

64 problems x 8 completions per rollout, four updates each, as in against_trl.py. Each algorithm and
seed runs once as ``BASE`` and once with each of the other settings of ``CHANGES``. Of each run:
held-out avg@8 after the last rollout, averaged over the last four and over all evaluations, and how
much it moves between the rollouts of the second half (root mean square). Differences are paired by
seed, with Student's 95 % interval. Writes ``results.json`` and ``results.md`` after every seed; what
``results.json`` holds is not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from measuring import facts, paired, save, stated
from race import EMBEDDED, figures, ours

from nft_lightning.common.text import markdown

BASE = "whole groups in an update, second beta of AdamW 0.95"
SETTINGS: dict[str, list[str]] = {
    BASE: ["batching.minibatch_unit=group", "optimizer.beta2=0.95"],
    "single completions in an update, second beta of AdamW 0.95": [
        "batching.minibatch_unit=completion",
        "optimizer.beta2=0.95",
    ],
    "whole groups in an update, second beta of AdamW 0.999": [
        "batching.minibatch_unit=group",
        "optimizer.beta2=0.999",
    ],
}
DEVIATION = f"{BASE}, sample standard deviation"
CHANGES: dict[str, dict[str, list[str]]] = {
    "grpo": {**SETTINGS, DEVIATION: [*SETTINGS[BASE], "algorithm.std=sample"]},
    "nft": SETTINGS,
}
FIGURES = ("end", "last four", "whole curve", "movement")
# The figures of a run, by seed.
Runs = dict[str, dict[str, float]]
# By algorithm, then by setting.
Found = dict[str, dict[str, Runs]]


def measured(curve: list[tuple[float, float]]) -> dict[str, float]:
    """Return the figures of one run's held-out curve."""
    late = [accuracy for _, accuracy in curve[len(curve) // 2 :]]
    steps = [b - a for a, b in pairwise(late)]
    return {**figures(curve), "movement": float(np.sqrt(np.mean(np.square(steps))))}


def changed_by(base: Runs, changed: Runs, figure: str) -> str:
    """Return the mean of changed less base over their common seeds, with its interval."""
    seeds = [seed for seed in changed if seed in base]
    return paired([changed[seed][figure] - base[seed][figure] for seed in seeds])


def table(found: Found) -> str:
    """Return a row for each algorithm and setting: the means, and the differences to ``BASE``."""
    rows = []
    for algorithm, settings in found.items():
        base = settings[BASE]
        for setting, runs in settings.items():
            row = [algorithm, setting, str(len(runs))]
            for figure in FIGURES:
                mean = np.mean([run[figure] for run in runs.values()])
                difference = "" if setting == BASE else f", {changed_by(base, runs, figure)}"
                row.append(f"{mean:.3f}{difference}")
            rows.append(row)
    return markdown(["algorithm", "setting", "seeds", *FIGURES], rows)


def written(path: Path) -> dict[str, Any]:
    """Return what earlier calls have measured."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rollouts", type=int, default=12)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--algorithms", nargs="+", default=list(CHANGES), choices=list(CHANGES))
    args = parser.parse_args()
    runs: Found = written(args.out / "results.json").get("runs", {})
    for seed in args.seeds:
        for algorithm in args.algorithms:
            for setting, words in CHANGES[algorithm].items():
                done = runs.setdefault(algorithm, {}).setdefault(setting, {})
                if str(seed) in done:
                    continue
                changed = [*EMBEDDED, f"algorithm={algorithm}", *words]
                with tempfile.TemporaryDirectory() as folder:
                    run = ours(args.rollouts, seed, Path(folder), changed)
                done[str(seed)] = measured(run["curve"])
        made = facts("one thread per run")
        about = f"{stated(made)}; {args.rollouts} rollouts per run"
        save(args.out, f"{about}\n\n{table(runs)}", {**made, "rollouts": args.rollouts, "runs": runs})


if __name__ == "__main__":
    main()
