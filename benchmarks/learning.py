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
from measuring import facts, save
from race import EMBEDDED, ours

from nft_lightning.common.text import markdown
from nft_lightning.stats.intervals import over_seeds

BASE = "whole groups in an update, second beta of AdamW 0.95"
BETAS = BASE.replace("0.95", "0.999")
SINGLE = BASE.replace("whole groups", "single completions")
SETTINGS: dict[str, list[str]] = {
    BASE: ["batching.minibatch_unit=group", "optimizer.beta2=0.95"],
    SINGLE: ["batching.minibatch_unit=completion", "optimizer.beta2=0.95"],
    BETAS: ["batching.minibatch_unit=group", "optimizer.beta2=0.999"],
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
    accuracies = [accuracy for _, accuracy in curve]
    late = accuracies[len(accuracies) // 2 :]
    steps = [b - a for a, b in pairwise(late)]
    return {
        "end": accuracies[-1],
        "last four": float(np.mean(accuracies[-4:])),
        "whole curve": float(np.mean(accuracies)),
        "movement": float(np.sqrt(np.mean(np.square(steps)))),
    }


def paired(base: Runs, changed: Runs, figure: str) -> str:
    """Return the mean of changed less base over their common seeds, with its interval."""
    seeds = [seed for seed in changed if seed in base]
    differences = [changed[seed][figure] - base[seed][figure] for seed in seeds]
    if len(differences) < 2:
        return "one seed"
    found = over_seeds(differences)
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def table(found: Found) -> str:
    """Return a row for each algorithm and setting: the means, and the differences to the default."""
    rows = []
    for algorithm, settings in found.items():
        base = settings[BASE]
        for setting, runs in settings.items():
            row = [algorithm, setting, str(len(runs))]
            for figure in FIGURES:
                mean = np.mean([run[figure] for run in runs.values()])
                difference = "" if setting == BASE else f", {paired(base, runs, figure)}"
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
        about = (
            f"{made['commit']}, {made['date']}, {made['machine']}; {args.rollouts} rollouts per run\n\n"
        )
        save(args.out, f"{about}\n\n{table(runs)}", {**made, "rollouts": args.rollouts, "runs": runs})


if __name__ == "__main__":
    main()
