"""What training added to its first evaluation, by algorithm, and how far algorithms are apart.

    python benchmarks/gain.py RUNS ... --chosen-with 64 --out benchmarks/results/smollm2_stories

Intervals are over seeds and problems; algorithms are compared with the first seed by seed and problem by
problem, after as many updates. With ``--chosen-with N`` a second column leaves out the first N held-out
problems, where an experiment's settings were chosen by their answers. Writes ``results.json`` and
``results.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measuring import save
from omegaconf import OmegaConf

from nft_lightning.app.build import build
from nft_lightning.common.text import interval, markdown
from nft_lightning.compare.made import made_with, sentence
from nft_lightning.compare.runs import Run, find_runs
from nft_lightning.stats.intervals import Interval, crossed


def problems_after(run: Run, count: int) -> np.ndarray:
    """Return [P] bool: the problem comes after the first ``count`` held-out ones of the run's source."""
    config = OmegaConf.load(run.folder / "config.yaml")
    source = build(config.problems.source, "problems.source")
    ids = [problem.id for problem in source.held_out(len(run.final.problem_ids))]
    later = set(ids[count:])
    return np.array([name in later for name in run.final.problem_ids])


def evaluated(runs: Sequence[Run]) -> list[float]:
    """Return the numbers of updates after which all of the runs were evaluated, without the first."""
    common = set.intersection(*({float(e.axes["updates"]) for e in run.evaluations} for run in runs))
    return sorted(common)[1:]


def accuracy(run: Run, updates: float) -> np.ndarray:
    """Return [P]: the accuracy on each problem after so many updates."""
    (found,) = (e.accuracy for e in run.evaluations if e.axes["updates"] == updates)
    return np.asarray(found)


def gains(runs: Sequence[Run], updates: float) -> np.ndarray:
    """Return [S, P]: what was gained since the first evaluation, by seed and problem."""
    return np.stack([accuracy(run, updates) - run.evaluations[0].accuracy for run in runs])


def by_seed(runs: Sequence[Run]) -> dict[int, Run]:
    """Return the runs by their seeds."""
    return {run.seed: run for run in runs}


def apart(first: Sequence[Run], second: Sequence[Run], updates: float) -> np.ndarray:
    """Return [S, P]: accuracies of ``second`` less those of ``first``, for the seeds that both have."""
    one, other = by_seed(first), by_seed(second)
    seeds = sorted(one.keys() & other.keys())
    return np.stack([accuracy(other[s], updates) - accuracy(one[s], updates) for s in seeds])


def intervals(values: np.ndarray, kept: np.ndarray) -> list[Interval]:
    """Return the interval of the mean of ``values`` [S, P]: on all problems, and on ``kept`` [P]."""
    return [crossed(values), crossed(values[:, kept])]


def main() -> None:
    """Read, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument(
        "--chosen-with", type=int, default=0, help="held-out problems that chose settings"
    )
    parser.add_argument("--first", default="nft", help="the algorithm that others are compared with")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    groups: dict[str, list[Run]] = {given.first: []}
    for run in find_runs(given.runs)[0]:
        groups.setdefault(run.algorithm, []).append(run)
    first = groups[given.first]
    if not first:
        raise SystemExit(
            f"error: --first={given.first!r} has no run here: use one of {list(groups)[1:]}."
        )
    others = problems_after(first[0], given.chosen_with)
    heads = [f"on all {len(others)} problems", f"on the {int(others.sum())} that chose no setting"]
    rows, differences, found = [], [], []
    for algorithm, runs in groups.items():
        for updates in evaluated(runs):
            rollouts = next(
                e.axes["epochs"] for e in runs[0].evaluations if e.axes["updates"] == updates
            )
            accuracies = {run.seed: float(accuracy(run, updates).mean()) for run in runs}
            gained = intervals(gains(runs, updates), others)
            listed = ", ".join(f"{value:.3f}" for value in accuracies.values())
            cells = [interval(*each[:3], "+") for each in gained]
            rows.append([algorithm, f"{rollouts:.0f}", listed, *cells])
            one = {"algorithm": algorithm, "rollouts": rollouts, "by_seed": accuracies}
            found.append({**one, "gain": [each._asdict() for each in gained]})
            if runs is first or updates not in evaluated(first):
                continue
            between = intervals(apart(first, runs, updates), others)
            cells = [interval(*each[:3], "+") for each in between]
            differences.append([f"{algorithm} - {given.first}", f"{rollouts:.0f}", *cells])
            found[-1][f"less_{given.first}"] = [each._asdict() for each in between]
    before = {run.seed: float(run.evaluations[0].accuracy.mean()) for run in first}
    made = made_with(groups)
    start = ", ".join(f"{value:.3f} (seed {seed})" for seed, value in before.items())
    columns = ["algorithm", "rollouts", "accuracy by seed", *(f"gain {head}" for head in heads)]
    text = f"Before the first rollout: {start}. Intervals of 95 % over seeds and problems.\n\n"
    text += markdown(columns, rows)
    if differences:
        columns = ["difference", "rollouts", *heads]
        text += f"\nPaired by seed and problem:\n\n{markdown(columns, differences)}"
    save(given.out, f"{text}\n{sentence(made)}\n", {"before": before, "rows": found, "made": made})


if __name__ == "__main__":
    main()
