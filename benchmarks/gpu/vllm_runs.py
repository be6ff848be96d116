"""Runs of nft-train with vLLM beside the trainer, and what their metrics say: shared by two checks."""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import parser, save_random_model, train

EPOCHS = 4
# The words of nft-train and the processes of each row.
Runs = Mapping[str, tuple[Sequence[str], int]]


def options_of(about: str | None) -> argparse.ArgumentParser:
    """Return the options that both checks have."""
    options = parser(about)
    options.add_argument("--problems", type=int, default=32)
    options.add_argument("--completions", type=int, default=8)
    options.add_argument("--only", nargs="+", help="names of the rows to measure; all by default")
    return options


def settings(given: argparse.Namespace, folder: Path) -> list[str]:
    """What every run has: a model without a meaning, verdicts by lot, no evaluation on the way."""
    cpu = given.rehearse
    save_random_model(folder / "model", "rehearsal" if cpu else "qwen3_0.6b", vocab_size=101)
    return [
        "model=hf",
        f"model.path={folder / 'model'}",
        "verifier=callable",
        "verifier.function=benchmarks.gpu.stored.coin",
        "rollout=vllm",
        "rollout.engine.enforce_eager=true",
        "rollout.engine.max_num_seqs=128",
        f"rollout.problems_per_rollout={given.problems}",
        f"rollout.completions_per_problem={given.completions}",
        f"rollout.max_new_tokens={16 if cpu else 256}",
        "batching.updates_per_rollout=2",
        "batching.max_tokens_per_micro_batch=4096",
        f"trainer.max_epochs={EPOCHS}",
        f"trainer.accelerator={'cpu' if cpu else 'gpu'}",
        f"trainer.threads={1 if cpu else 0}",
        "evaluation.problems=2",
        "evaluation.completions_per_problem=1",
        "evaluation.max_new_tokens=4",
        "evaluation.every_epochs=100",
        "logger=csv",
        "callbacks=none",
    ]


def measured(run_dir: Path) -> dict[str, float]:
    """Medians of an epoch without the first, where vLLM gets all weights and warms up."""
    with open(run_dir / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["time/generate_seconds"]][1:]

    def median(name: str) -> float:
        return statistics.median(float(row[name]) for row in rows)

    return {
        "sync_mib": median("sync/bytes") / 2**20,
        "sync_seconds": median("time/sync_seconds"),
        "probe_gap": max(float(row["sync/probe_logprob_gap"]) for row in rows),
        "tokens_per_second": median("time/generate_tokens_per_second"),
        "train_seconds": median("time/train_seconds"),
    }


def chosen_of(given: argparse.Namespace, runs: Runs) -> list[str]:
    """Return the names of the runs that ``--only`` leaves; an unknown one ends the command."""
    chosen = given.only or list(runs)
    for name in chosen:
        if name not in runs:
            sys.exit(
                f"error: --only={name!r} is no row of this check: use {', '.join(map(repr, runs))}."
            )
    return chosen


def rows_of(given: argparse.Namespace, name: str, runs: Runs) -> list[dict[str, Any]]:
    """Return a row for each run that is asked for, under ``name``; one that did not end says why."""
    rows = []
    chosen = chosen_of(given, runs)
    with tempfile.TemporaryDirectory() as folder:
        common = settings(given, Path(folder))
        for i, about in enumerate(chosen):
            words, processes = runs[about]
            run_dir = Path(folder) / f"run_{i}"
            also = [f"run_dir={run_dir}", f"trainer.devices={processes}"]
            said = train([*words, *common, *also], processes)
            rows.append({name: about, **({"not_run": said} if said else measured(run_dir))})
    return rows


def shown(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A row of results.md."""
    if "not_run" in row:
        return {name: row[name], "MiB a sync": f"not run: {row['not_run']}"}
    return {
        name: row[name],
        "MiB a sync": f"{row['sync_mib']:.1f}",
        "s a sync": f"{row['sync_seconds']:.3f}",
        "largest gap of the probe": f"{row['probe_gap']:.2g}",
        "tokens a second": f"{row['tokens_per_second']:,.0f}",
        "s of training an epoch": f"{row['train_seconds']:.2f}",
    }
