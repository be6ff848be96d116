"""How often do the bootstrap intervals over few seeds hold the truth?

    python benchmarks/bootstrap.py --out benchmarks/results/bootstrap

Scores of S runs are drawn from a normal distribution of known mean; counted is how often the 95 %
intervals of ``nft_lightning.stats.robust`` hold the true interquartile mean of one algorithm, and the
true chance, one half, that a run of one algorithm is above a run of another that does not differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import scipy
from measuring import save

from nft_lightning.stats.robust import bootstrapped, improvement, interquartile_mean

SEEDS = (3, 5, 10, 20)


def coverage(seeds: int, times: int, random: np.random.Generator) -> list[float]:
    """Return the shares of intervals that hold the truth: interquartile mean, improvement."""
    hits = np.zeros(2)
    for _ in range(times):
        one, two = random.normal(0.5, 0.05, (2, seeds))
        middle = bootstrapped(interquartile_mean, one)
        better = bootstrapped(improvement, one, two)
        hits += (middle.low <= 0.5 <= middle.high, better.low <= 0.5 <= better.high)
    return (hits / times).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=1000, help="simulations of each number of seeds")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    lines = ["| seeds | interquartile mean | probability of improvement |", "|---|---|---|"]
    found = {}
    for seeds in SEEDS:
        found[seeds] = coverage(seeds, given.times, random)
        lines.append(f"| {seeds} | {found[seeds][0]:.1%} | {found[seeds][1]:.1%} |")
    text = "\n".join(lines) + f"\n\n{given.times} simulations each, SciPy {scipy.__version__}.\n"
    save(given.out, text, found)


if __name__ == "__main__":
    main()
