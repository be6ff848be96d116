"""Every algorithm on one experiment, three seeds each, at a learning rate found by Optuna.

    python sweeps/every_algorithm.py --out benchmarks/results/every_algorithm

For each algorithm it runs, through Hydra's multirun,

    nft-train -m sweep=learning_rate experiment=... algorithm=...         (TPE, one process a trial)
    nft-train -m experiment=... algorithm=... seed=0,1,2 optimizer.learning_rate=BEST

The search tunes on seed 100, apart from the seeds that are reported. What is finished is not run
again: a search continues until its study in ``OUT/sweeps.sqlite3`` holds ``--trials`` trials, and a
seed that has its summary is kept. Writes ``results.json`` and ``results.md``. On two cores count
about a minute a run: 22 algorithms x (12 + 3) runs, one after another.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna

from nft_lightning.app.build import CONF_DIR
from nft_lightning.common.text import accuracy_name

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
TUNING_SEED = 100


def nft_train(*arguments: str) -> None:
    """The command line, one thread; failed runs are reported by it and show in the table."""
    command = [sys.executable, "-m", "nft_lightning.cli.train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(command, check=False, env=environment)


def storage_of(given: argparse.Namespace) -> str:
    """One file for all studies."""
    return f"sqlite:///{given.out / 'sweeps.sqlite3'}"


def best_rate(algorithm: str, given: argparse.Namespace) -> float | None:
    """Search until the study holds enough trials; the best rate, or None where no trial finished."""
    storage = storage_of(given)
    name = f"{algorithm}_{given.experiment}"
    study = optuna.create_study(
        study_name=name, storage=storage, direction="maximize", load_if_exists=True
    )
    ended = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL
    done = len(study.get_trials(states=ended))
    if done < given.trials:
        nft_train(
            "-m",
            "sweep=learning_rate",
            f"experiment={given.experiment}",
            f"algorithm={algorithm}",
            f"seed={TUNING_SEED}",
            f"hydra.sweeper.storage={storage}",
            f"hydra.sweeper.study_name={name}",
            f"hydra.sweeper.n_trials={given.trials}",
            "pruner=none",  # a trial is evaluated once, at its end
            f"hydra.sweep.dir={given.out / 'runs' / algorithm / f'search_{done}'}",
            f"trainer.max_epochs={given.search_epochs}",
            f"evaluation.every_epochs={given.search_epochs}",
            f"optimizer.learning_rate={given.search_range}",
            *given.override,
        )
    finished = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return float(study.best_params["optimizer.learning_rate"]) if finished else None


def train_seeds(algorithm: str, rate: float, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The reported runs; a folder that holds no summary is a run that was cut short, and is repeated."""
    found = []
    for seed in given.seeds:
        folder = given.out / "runs" / algorithm / f"rate_{rate:.3e}_seed_{seed}"
        if not any(folder.glob("*/summary.json")):
            shutil.rmtree(folder, ignore_errors=True)
            nft_train(
                "-m",
                f"experiment={given.experiment}",
                f"algorithm={algorithm}",
                f"seed={seed}",
                f"optimizer.learning_rate={rate!r}",
                f"hydra.sweep.dir={folder}",
                *given.override,
            )
        found += [json.loads(p.read_text()) for p in folder.glob("*/summary.json")]
    return found


def row(algorithm: str, rate: float | None, runs: list[dict[str, Any]]) -> str:
    """A line of the table: mean and 95 % t interval over seeds."""
    if rate is None or not runs:
        return f"| `{algorithm}` | {rate or 'no trial finished'} | 0 | | | | | |"
    name = accuracy_name(runs[0]["after"])
    values = [r["after"][name] for r in runs]
    n, mean = len(values), sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else math.nan
    half = T95.get(n, 1.96) * deviation / math.sqrt(n)
    before = sum(r["before"][name] for r in runs) / n
    # Of the processor: what shared the machine with the run does not count.
    seconds = sum(r["training_cpu_seconds"] for r in runs) / n
    tokens = sum(r["tokens"] for r in runs) / n
    return (
        f"| `{algorithm}` | {rate:.2e} | {n} | {before:.3f} | {mean:.3f} ± {half:.3f} | "
        f"{min(values):.3f} | {seconds:.0f} | {tokens / 1e3:.0f} k |"
    )


def main() -> None:
    """Search, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = sorted(p.stem for p in (CONF_DIR / "algorithm").glob("*.yaml"))
    parser.add_argument("--experiment", default="arithmetic_compare")
    parser.add_argument("--algorithms", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--search-epochs", type=int, default=10, help="epochs of a trial")
    parser.add_argument("--search-range", default="tag(log, interval(1e-6, 1e-3))")
    parser.add_argument("--jobs", type=int, default=1, help="algorithms at a time")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("override", nargs="*", help="further overrides of every run")
    given = parser.parse_args()
    given.out = given.out.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    rows = [
        "| algorithm | learning rate | seeds | before | after (mean, 95 % interval over seeds) | "
        "worst seed | CPU seconds | tokens |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def work(algorithm: str) -> tuple[str, float | None, list[dict[str, Any]]]:
        rate = best_rate(algorithm, given)
        return algorithm, rate, train_seeds(algorithm, rate, given) if rate else []

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The tables are made once, before several algorithms want them at the same moment.
    optuna.storages.RDBStorage(storage_of(given))
    with ThreadPoolExecutor(given.jobs) as pool:
        for algorithm, rate, runs in pool.map(work, given.algorithms):
            results[algorithm] = {"learning_rate": rate, "runs": runs}
            rows.append(row(algorithm, rate, runs))
            (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            (given.out / "results.md").write_text("\n".join(rows) + "\n")
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
