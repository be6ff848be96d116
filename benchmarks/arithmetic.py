"""Train algorithms x seeds through nft-train and draw what came out.

    python benchmarks/arithmetic.py default --algorithms nft --out benchmarks/results/default
    python benchmarks/arithmetic.py default --algorithms nft nft+rollout=vllm --out OUT

Each run is a process of its own with one thread; ``--jobs`` of them run at a time. Finished runs
are not run again. Writes ``results.json``, ``results.md`` and ``curves.png``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from measuring import ONE_THREAD, machine, python, save

from nft_lightning.common.pictures import (
    MOST_BANDS,
    MOST_DIRECT_LABELS,
    STYLE,
    encoded,
    label_ends,
    legend,
    look,
)
from nft_lightning.common.text import accuracy_name

ALGORITHMS = ("nft", "rft", "grpo", "dr_grpo", "dapo")
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
Run = dict[str, Any]
WORK = ("generate", "verify", "old_logprobs", "train", "optimizer", "evaluate")


def train(experiment: str, algorithm: str, seed: int, runs: Path) -> Run:
    """One run in its own process, and what its files say."""
    name, *overrides = algorithm.split("+")
    folder = runs / f"{re.sub(r'[^a-z_]+', '_', algorithm)}_seed{seed}"
    if not (folder / "summary.json").exists():
        chosen = [] if experiment == "default" else [f"experiment={experiment}"]
        command = [sys.executable, "-m", "nft_lightning.cli.train", *chosen]
        command += [f"algorithm={name}", f"seed={seed}", f"run_dir={folder}", "trainer.threads=1"]
        command += overrides
        environment = {**os.environ, **ONE_THREAD}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    summary = json.loads((folder / "summary.json").read_text())
    metric = accuracy_name(summary["after"])
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    worked = sum(float(r[f"time/{w}_seconds"]) for r in rows for w in WORK if r.get(f"time/{w}_seconds"))
    # Lightning numbers a step when it begins; the curve counts those that are done.
    steps = [int(r["step"] or 0) for r in rows if r.get(metric)]
    values = [float(r[metric]) for r in rows if r.get(metric)]
    curve = [(s + 1 if s else 0, v) for s, v in zip(steps, values, strict=True)]
    tokens = [float(r["progress/tokens"]) for r in rows if r.get("progress/tokens")]
    return {
        "before": summary["before"][metric],
        "after": summary["after"][metric],
        "seconds": summary["training_seconds"],
        "other_fraction": 1 - worked / summary["training_seconds"],
        "tokens": tokens[-1],
        "curve": curve,
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of the 95 % t interval over seeds."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, T95.get(n, 1.96) * deviation / math.sqrt(n)


def height(run: Run) -> float:
    """Mean accuracy over the evaluations after the start: steadier than the last one alone."""
    points = [value for _, value in run["curve"][1:]]
    return sum(points) / len(points)


def table(results: dict[str, list[Run]]) -> str:
    """A Markdown table, one row an algorithm."""
    lines = [
        "| algorithm | seeds | before | after (mean, 95 % interval over seeds) | worst seed | "
        "mean of the curve | its difference to the first row, paired by seed | "
        "training seconds | tokens | time outside the work |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = [height(r) for r in next(iter(results.values()))]
    for algorithm, runs in results.items():
        level, _ = interval([height(r) for r in runs])
        gain, gain_half = interval([height(r) - f for r, f in zip(runs, first, strict=True)])
        mean, half = interval([r["after"] for r in runs])
        before, _ = interval([r["before"] for r in runs])
        seconds = sorted(r["seconds"] for r in runs)
        tokens = sum(r["tokens"] for r in runs) / len(runs)
        lines.append(
            f"| {algorithm} | {len(runs)} | {before:.3f} | {mean:.3f} ± {half:.3f} | "
            f"{min(r['after'] for r in runs):.3f} | {level:.3f} | {gain:+.3f} ± {gain_half:.3f} | "
            f"{seconds[0]:.0f} to {seconds[-1]:.0f} | "
            f"{tokens / 1e3:.0f} k | {max(r['other_fraction'] for r in runs):.1%} |"
        )
    return "\n".join(lines) + "\n"


def draw(results: dict[str, list[Run]], names: Sequence[str] = ()) -> Figure:
    """Draw mean curves, with 95 % intervals over seeds where there are at most two.

    Args:
        results: the runs of each algorithm.
        names: what the curves are called, if not as the algorithms.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        axis = figure.subplots()
        ends = {}
        for index, (name, runs) in enumerate(zip(names or results, results.values(), strict=True)):
            steps = [s for s, _ in runs[0]["curve"]]
            points = [interval([r["curve"][i][1] for r in runs]) for i in range(len(steps))]
            means = [m for m, _ in points]
            axis.plot(steps, means, **look(index))
            if len(runs) > 1 and len(results) <= MOST_BANDS:
                low, high = [m - h for m, h in points], [m + h for m, h in points]
                axis.fill_between(steps, low, high, color=look(index)["color"], alpha=0.15, linewidth=0)
            ends[name] = means[-1]
        axis.set(xlabel="optimizer updates", ylabel="held-out avg@8", ylim=(0, 1))
        if len(ends) > MOST_DIRECT_LABELS:
            legend(figure, list(ends))
        elif len(ends) > 1:
            label_ends(axis, ends)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiment", help="default, or a name in conf/experiment")
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, help="run folders, by default under runs/")
    given = parser.parse_args()
    runs = given.runs or Path("runs/benchmark") / given.experiment
    given.out.mkdir(parents=True, exist_ok=True)
    jobs = [(a, s) for s in given.seeds for a in given.algorithms]
    with ThreadPoolExecutor(given.jobs) as pool:
        done = list(pool.map(lambda job: train(given.experiment, *job, runs), jobs))
    results: dict[str, list[Run]] = {a: [] for a in given.algorithms}
    for (algorithm, _), result in zip(jobs, done, strict=True):
        results[algorithm].append(result)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    note = f"\n{machine(python())}; {given.jobs} runs at a time, one thread each; "
    note += (
        f"peak memory of a run {peak:.2f} GiB.\n" if peak else "finished runs were taken as they are.\n"
    )
    save(given.out, table(results) + note, results)
    (given.out / "curves.png").write_bytes(encoded(draw(results), "png"))


if __name__ == "__main__":
    main()
