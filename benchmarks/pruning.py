"""What pruning saves: the same search without a pruner, with the median, with successive halving.

    python benchmarks/pruning.py --out benchmarks/results/pruning

All are ``nft-train -m sweep=learning_rate`` with one sampler seed, on experiment=arithmetic_compare,
evaluated after every epoch. The cost of a search is what its trials had trained until they ended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import optuna
from measuring import ONE_THREAD, machine, save

from nft_lightning.compare.runs import read_evaluation

PRUNERS = ("none", "median", "halving")


def search(name: str, given: argparse.Namespace) -> dict[str, float]:
    """One search, unless it has been made; its best trial and its cost."""
    storage = f"sqlite:///{given.runs}/{name}.sqlite3"
    command = [sys.executable, "-m", "nft_lightning.cli.train", "-m", "sweep=learning_rate"]
    command += ["experiment=arithmetic_compare", f"algorithm={given.algorithm}", "seed=100"]
    command += [f"trainer.max_epochs={given.epochs}", "evaluation.every_epochs=1"]
    command += [f"hydra.sweeper.n_trials={given.trials}", f"hydra.sweeper.storage={storage}"]
    command += [f"pruner={name}", f"hydra.sweeper.study_name={name}"]
    command += [f"hydra.sweep.dir={given.runs}/{name}", f"optimizer.learning_rate={given.range}"]
    environment = {**os.environ, **ONE_THREAD}
    subprocess.run(command, check=True, env=environment)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    best = max((t for t in trials if t.value is not None), key=lambda t: t.value)
    spent = [last_axes(Path(t.user_attrs["folder"])) for t in trials]
    return {
        "trials": len(trials),
        "pruned": sum(t.state == optuna.trial.TrialState.PRUNED for t in trials),
        "learning_rate": best.params["optimizer.learning_rate"],
        "accuracy": best.value,
        "updates": sum(s["updates"] for s in spent),
        "tokens": sum(s["tokens"] for s in spent),
        "seconds": sum(s["seconds"] for s in spent),
    }


def last_axes(folder: Path) -> dict[str, float]:
    """What a trial had trained at its last evaluation."""
    paths = sorted((folder / "evaluations").glob("update_*.parquet"))
    return read_evaluation([paths[-1]]).axes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--algorithm", default="nft")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--range", default="tag(log, interval(1e-6, 1e-3))")
    parser.add_argument("--runs", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.runs = given.runs.resolve()
    given.runs.mkdir(parents=True, exist_ok=True)
    found = {name: search(name, given) for name in PRUNERS}
    lines = [
        "| pruner | trials | pruned | best learning rate | its avg@8 | updates | tokens | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {r['trials']} | {r['pruned']} | {r['learning_rate']:.2e} | {r['accuracy']:.3f} | "
        f"{r['updates']:.0f} | {r['tokens'] / 1e3:.0f} k | {r['seconds']:.0f} |"
        for name, r in found.items()
    ]
    text = "\n".join(lines) + "\n\n"
    for name in list(found)[1:]:
        ratio = {k: found[name][k] / found["none"][k] for k in ("accuracy", "updates", "tokens")}
        text += (
            f"Pruned by {name} against not: {ratio['accuracy']:.1%} of the accuracy, "
            f"{ratio['updates']:.1%} of the updates, {ratio['tokens']:.1%} of the tokens.\n"
        )
    text += f"{machine('one thread a run')}.\n"
    save(given.out, text, found)


if __name__ == "__main__":
    main()
