"""The learning rate that served each algorithm best, of runs in RUNS/RATE/ALGORITHM_seedN.

    python sweeps/best_rates.py RUNS nft grpo      prints: nft@1e-5 grpo@2e-5

Best is the highest mean over the seeds of the accuracy at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nft_lightning.common.text import accuracy_name


def score(folder: Path, algorithm: str) -> float:
    """The mean final accuracy of the algorithm's runs in a folder; -1 where there are none."""
    found = []
    for path in sorted(folder.glob(f"{algorithm}_seed*/summary.json")):
        after = json.loads(path.read_text())["after"]
        found.append(after[accuracy_name(after)])
    return sum(found) / len(found) if found else -1.0


def main() -> None:
    """Choose, and print what ``sweeps/seeds.sh`` takes."""
    runs, algorithms = Path(sys.argv[1]), sys.argv[2:]
    folders = sorted(path for path in runs.iterdir() if path.is_dir())
    chosen = []
    for algorithm in algorithms:
        scores = {folder.name: score(folder, algorithm) for folder in folders}
        best = max(scores, key=lambda rate: scores[rate])
        if scores[best] < 0:
            sys.exit(f"no finished run of {algorithm} in {runs}")
        shown = ", ".join(f"{rate}: {value:.3f}" for rate, value in scores.items())
        print(f"{algorithm}: {shown}", file=sys.stderr)
        chosen.append(f"{algorithm}@{best}")
    print(" ".join(chosen))


if __name__ == "__main__":
    main()
