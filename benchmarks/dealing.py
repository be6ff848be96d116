"""What it does to deal a rollout's completions to its updates one by one, instead of by problems.

    python benchmarks/dealing.py --out benchmarks/results/dealing

The embedded policy, 64 problems x 8 completions a rollout, four updates each, as in against_trl.py, for
each algorithm and seed once with ``batching.minibatch_unit=group`` and once with ``completion``. Of each
run: held-out avg@8 averaged over the second half of its rollouts, and how much it moves there from one
rollout to the next (root mean square). Differences are paired by seed, with Student's 95 % interval.
Writes ``results.json`` and ``results.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from against_trl import EMBEDDED, ours
from measuring import machine, save

from nft_lightning.common.text import markdown
from nft_lightning.stats.intervals import over_seeds

DEALS = ("group", "completion")


def measured(curve: list[tuple[float, float]]) -> dict[str, float]:
    """Level and movement of the second half of a run."""
    late = [accuracy for _, accuracy in curve[len(curve) // 2 :]]
    steps = [b - a for a, b in pairwise(late)]
    return {"level": float(np.mean(late)), "movement": float(np.sqrt(np.mean(np.square(steps))))}


def paired(first: list[float], second: list[float]) -> str:
    """Mean of second - first with its interval."""
    found = over_seeds(np.subtract(second, first).tolist())
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def table(found: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """A line for each algorithm and figure."""
    rows = []
    for algorithm, runs in found.items():
        for key in ("level", "movement"):
            sides = [[run[key] for run in runs[deal]] for deal in DEALS]
            means = [f"{np.mean(side):.4f}" for side in sides]
            rows.append([algorithm, key, *means, paired(*sides)])
    return markdown(["algorithm", "figure", *DEALS, "difference"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rollouts", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--algorithms", nargs="+", default=["grpo", "nft"])
    args = parser.parse_args()
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for algorithm in args.algorithms:
        runs = found[algorithm] = {deal: [] for deal in DEALS}
        for seed in range(args.seeds):
            for deal in DEALS:
                words = [f"algorithm={algorithm}", f"batching.minibatch_unit={deal}"]
                with tempfile.TemporaryDirectory() as folder:
                    run = ours(args.rollouts, seed, Path(folder), [*EMBEDDED, *words])
                runs[deal].append(measured(run["curve"]))
                print(algorithm, seed, deal, runs[deal][-1], flush=True)
    made_on = machine("one thread a run")
    head = f"{made_on}; {args.seeds} seeds, {args.rollouts} rollouts a run\n\n"
    save(args.out, head + table(found), {"machine": made_on, "runs": found})


if __name__ == "__main__":
    main()
