"""What training added to its first evaluation, with an interval over seeds and problems.

    python benchmarks/gain.py RUNS ... --chosen-with 64 --out benchmarks/results/smollm2_stories

Every run must have been evaluated at the same updates. With ``--chosen-with N`` a second column leaves
out the first N held-out problems, where an experiment's settings were chosen by their answers.
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


def gain(runs: Sequence[Run], index: int, kept: np.ndarray) -> Interval:
    """Return the mean gain of evaluation ``index`` over the first, of the problems ``kept`` [P] bool."""
    gains = [run.evaluations[index].accuracy - run.evaluations[0].accuracy for run in runs]
    return crossed(np.stack(gains)[:, kept])


def main() -> None:
    """Read, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument(
        "--chosen-with", type=int, default=0, help="held-out problems that chose settings"
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    runs, _ = find_runs(given.runs)
    updates = [[evaluation.axes["updates"] for evaluation in run.evaluations] for run in runs]
    if any(own != updates[0] for own in updates):
        raise SystemExit(f"error: the runs were evaluated after different updates: {updates}")
    everything = np.ones(len(runs[0].final.problem_ids), dtype=bool)
    others = problems_after(runs[0], given.chosen_with)
    rows, found = [], []
    for index, evaluation in enumerate(runs[0].evaluations[1:], 1):
        accuracies = [float(run.evaluations[index].accuracy.mean()) for run in runs]
        whole, fresh = gain(runs, index, everything), gain(runs, index, others)
        name = f"{evaluation.axes['epochs']:.0f}"
        rows.append(
            [
                name,
                ", ".join(f"{a:.3f}" for a in accuracies),
                interval(*whole[:3], "+"),
                interval(*fresh[:3], "+"),
            ]
        )
        found.append(
            {"rollouts": name, "by_seed": accuracies, "all": whole._asdict(), "other": fresh._asdict()}
        )
    before = [float(run.evaluations[0].accuracy.mean()) for run in runs]
    made = made_with({runs[0].algorithm: list(runs)})
    heads = [f"all {len(everything)} problems", f"the {int(others.sum())} that chose no setting"]
    columns = ["rollouts", "accuracy by seed", *(f"gain on {head}" for head in heads)]
    text = (
        f"Seeds {', '.join(str(run.seed) for run in runs)}; before the first rollout: "
        f"{', '.join(f'{a:.3f}' for a in before)}; 95 % intervals over seeds and problems\n\n"
        f"{markdown(columns, rows)}\n{sentence(made)}\n"
    )
    save(given.out, text, {"before": before, "rows": found, "made": made})


if __name__ == "__main__":
    main()
