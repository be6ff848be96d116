"""Are the intervals honest? Simulated seeds and problems with known truth.

    python benchmarks/intervals.py --out benchmarks/results/intervals

For each setting it draws tables of accuracies (seeds x problems x answers) from a known mean, and
counts how often the 95 % interval of ``nft_lightning.compare`` holds it, and how often two algorithms
that do not differ are told apart at 5 %: their seeds vary, and so do the problems that suit each.
Beside it stand what is usually reported: Student's interval over seeds, the standard error over
problems, and a bootstrap of problems and answers within them (one model, as in nft-eval).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from measuring import save

from nft_lightning.stats.estimates import estimate
from nft_lightning.stats.intervals import crossed, over_seeds

# seeds, problems, answers; spread by seed, by problem, by both
SETTINGS = (
    (5, 100, 8, 0.03, 0.25, 0.05),
    (5, 100, 8, 0.08, 0.25, 0.15),
    (5, 30, 32, 0.03, 0.25, 0.05),
    (5, 500, 1, 0.03, 0.30, 0.10),
    (10, 100, 8, 0.05, 0.20, 0.10),
    (3, 100, 8, 0.05, 0.25, 0.05),
)
COLUMNS = (
    "crossed",
    "over seeds alone",
    "over problems alone",
    "pairs told apart under no difference",
)


def truths(random: np.random.Generator, seeds: int, problems: int, spread: tuple[float, ...]):
    """Chances of a right answer [S, P] around 0.5, cut at 0 and 1, which keeps the mean."""
    by_seed, by_problem, by_both = spread
    chance = (
        random.normal(0, by_seed, (seeds, 1))
        + random.normal(0, by_problem, (1, problems))
        + random.normal(0, by_both, (seeds, problems))
    )
    return 0.5 + np.clip(chance, -0.5, 0.5)


def simulate(setting: tuple[float, ...], times: int, random: np.random.Generator) -> list[float]:
    """The shares of COLUMNS."""
    seeds, problems, answers, *spread = setting
    hits = np.zeros(4)
    for _ in range(times):
        values = random.binomial(answers, truths(random, seeds, problems, spread)) / answers
        found, plain = crossed(values), over_seeds(values.mean(1))
        by_problem = values.mean(0)
        half = 1.96 * by_problem.std(ddof=1) / np.sqrt(problems)
        # Two algorithms with one mean: common problems, seeds of their own, and their own liking.
        common = random.normal(0, spread[1], (1, problems))
        both = [
            random.binomial(answers, 0.5 + np.clip(common + own - 0.5, -0.5, 0.5)) / answers
            for own in (truths(random, seeds, problems, (spread[0], spread[2], spread[2])) for _ in "12")
        ]
        hits += (
            found.low <= 0.5 <= found.high,
            plain.low <= 0.5 <= plain.high,
            abs(by_problem.mean() - 0.5) <= half,
            crossed(both[1] - both[0]).p_value < 0.05,
        )
    return (hits / times).tolist()


def one_model(problems: int, answers: int, spread: float, times: int, random: np.random.Generator):
    """Coverage of one model's interval over problems, and of a bootstrap of both levels."""
    hits = np.zeros(2)
    for _ in range(times):
        chance = 0.5 + np.clip(random.normal(0, spread, problems), -0.5, 0.5)
        drawn = random.random((problems, answers)) < chance[:, None]
        found = estimate(torch.from_numpy(drawn.mean(1)))
        rows = random.integers(problems, size=(400, problems, 1))
        within = random.integers(answers, size=(400, problems, answers))
        low, high = np.quantile(drawn[rows, within].mean((1, 2)), (0.025, 0.975))
        hits += (found.low <= 0.5 <= found.high, low <= 0.5 <= high)
    return (hits / times).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=4000, help="simulations of each setting")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    lines = [
        f"| seeds x problems x answers | spread by seed, problem, both | {' | '.join(COLUMNS)} |",
        "|---|---|---|---|---|---|",
    ]
    results = {"many runs": [], "one model": []}
    for setting in SETTINGS:
        shares = simulate(setting, given.times, random)
        results["many runs"].append({"setting": setting, **dict(zip(COLUMNS, shares, strict=True))})
        size, spread = "x".join(map(str, setting[:3])), ", ".join(map(str, setting[3:]))
        lines.append(f"| {size} | {spread} | {' | '.join(f'{s:.1%}' for s in shares)} |")
    lines += ["", "| problems x answers | spread | over problems (ours) | bootstrap of both levels |"]
    lines += ["|---|---|---|---|"]
    for problems, answers, spread in ((30, 32, 0.3), (100, 8, 0.25), (500, 1, 0.25), (40, 4, 0.05)):
        shares = one_model(problems, answers, spread, given.times // 2, random)
        results["one model"].append({"setting": [problems, answers, spread], "coverage": shares})
        lines.append(f"| {problems}x{answers} | {spread} | {shares[0]:.1%} | {shares[1]:.1%} |")
    text = "\n".join(lines) + f"\n\n{given.times} simulations each, NumPy {np.__version__}.\n"
    save(given.out, text, results)


if __name__ == "__main__":
    main()
