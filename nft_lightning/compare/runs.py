"""Run folders as data, and the refusal to compare what cannot be compared."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from nft_lightning.app.conditions import NOT_CONDITIONS
from nft_lightning.errors import UserError
from nft_lightning.records.provenance import PROVENANCE
from nft_lightning.records.saved_config import CHANGES, COMMAND, within
from nft_lightning.stats.intervals import Values

Flat = dict[str, Any]
AXES = ("problems", "tokens", "seconds")
COLUMNS = ("problem_id", "verdict", "length_tokens", "truncated")


@dataclass(frozen=True)
class Evaluation:
    """What a run knew at one moment: right answers and samples [P] by problem, in order of their ids.

    ``axes`` are what training had cost until then: problems, completions, tokens, seconds, updates.
    """

    axes: dict[str, float]
    problem_ids: tuple[str, ...]
    right: Values
    samples: Values
    length_mean_tokens: float
    truncated_fraction: float

    @property
    def accuracy(self) -> Values:
        """avg@k of each problem [P]."""
        return self.right / self.samples


@dataclass(frozen=True)
class Run:
    """A finished run: its label in the report, its seed and what its folder holds.

    ``provenance`` has a commit, a date and a machine for each start of the run.
    """

    folder: Path
    algorithm: str
    seed: int
    config: Flat
    versions: Flat
    evaluations: tuple[Evaluation, ...]
    changes: tuple[Flat, ...] = ()
    label: str = ""
    overrides: tuple[str, ...] = ()
    provenance: tuple[Flat, ...] = ()

    @property
    def final(self) -> Evaluation:
        """Return the last evaluation."""
        return self.evaluations[-1]

    @cached_property
    def metrics(self) -> dict[str, list[tuple[float, float]]]:
        """Return each logged metric as (training problems so far, value) pairs."""
        found: dict[str, list[tuple[float, float]]] = {}
        path = self.folder / "metrics.csv"
        if not path.exists():
            return found
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("progress/problems"):
                    at = float(row["progress/problems"])
                    for name, value in row.items():
                        if name and value and "/" in name:
                            found.setdefault(name, []).append((at, float(value)))
        return found


def find_runs(paths: Sequence[Path]) -> tuple[list[Run], list[tuple[Path, str]]]:
    """Return every run in or below ``paths``, and the folders left out, each with the reason.

    Raises:
        UserError: a path that holds no run, or no finished one in all of them.
    """
    # By where they really are, named as they were given: a report is for others to read.
    folders: dict[Path, Path] = {}
    for path in paths:
        below = [path] if (path / "config.yaml").exists() else folders_with_config(path)
        found = [folder for folder in below if (folder / "versions.json").exists()]
        if not found:
            raise UserError("RUNS", str(path), "holds no run", "give run folders, or a folder of them")
        for folder in found:
            folders.setdefault(folder.resolve(), folder)
    runs, left_out = [], []
    for folder in folders.values():
        reason = why_not(folder)
        if reason:
            left_out.append((folder, reason))
        else:
            runs.append(read_run(folder))
    if not runs:
        folder, reason = left_out[0]
        raise UserError("RUNS", str(folder), reason, "let one finish")
    return runs, left_out


def folders_with_config(path: Path) -> list[Path]:
    """Return every folder below ``path`` that holds a config, in order; links to folders are followed.

    A folder that two ways lead to, or that holds a link to itself, is looked into once.
    """
    found, seen = [], set()
    for name, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(name)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()  # which name a run of two has does not depend on the disk
        if "config.yaml" in files:
            found.append(Path(name))
    return sorted(found)


def why_not(folder: Path) -> str | None:
    """Why a run cannot be compared; None where it can."""
    if not (folder / "summary.json").exists():
        return "has not finished"
    if not any((folder / "evaluations").glob("*.parquet")):
        return "holds no evaluations (callbacks.evaluations was left out)"
    return None


def read_run(folder: Path) -> Run:
    """Return a finished run's folder."""
    summary = json.loads((folder / "summary.json").read_text())
    config = flattened(yaml.safe_load((folder / "config.yaml").read_text()))
    versions = json.loads((folder / "versions.json").read_text())
    algorithm = summary.get("algorithm") or config["algorithm._target_"].rpartition(".")[2]
    by_update: dict[str, list[Path]] = {}
    for path in sorted((folder / "evaluations").glob("*.parquet")):
        by_update.setdefault(path.stem.split("_rank")[0], []).append(path)
    evaluations = tuple(read_evaluation(paths) for paths in by_update.values())
    changes = read_json(folder / CHANGES, [])
    command = read_json(folder / COMMAND, {"overrides": []})
    starts = read_json(folder / PROVENANCE, [])
    return Run(
        folder,
        algorithm,
        int(config["seed"]),
        config,
        versions,
        evaluations,
        changes=tuple(changes),
        overrides=tuple(command["overrides"]),
        provenance=tuple(starts),
    )


def read_json(path: Path, otherwise: Any) -> Any:
    """Return what the file holds, or ``otherwise`` where there is none."""
    return json.loads(path.read_text()) if path.exists() else otherwise


def read_evaluation(paths: Sequence[Path]) -> Evaluation:
    """Return one evaluation from the files of its ranks."""
    tables = [pq.read_table(p, columns=list(COLUMNS)) for p in paths]
    axes = json.loads(tables[0].schema.metadata[b"axes"])
    columns = {c: [v for t in tables for v in t[c].to_pylist()] for c in COLUMNS}
    ids, place = np.unique(np.array(columns["problem_id"]), return_inverse=True)
    is_right = np.array([v == "correct" for v in columns["verdict"]], dtype=np.float64)
    return Evaluation(
        axes,
        tuple(ids.tolist()),
        np.bincount(place, is_right, len(ids)).astype(np.float64),
        np.bincount(place, minlength=len(ids)).astype(np.float64),
        float(np.mean(columns["length_tokens"])),
        float(np.mean(columns["truncated"])),
    )


def flattened(node: Any, prefix: str = "") -> Flat:
    """Nested mappings as one, with dotted names."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    parts = (flattened(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in node.items())
    return {k: v for part in parts for k, v in part.items()}


def differing(configs: Sequence[Flat]) -> dict[str, list[Any]]:
    """Return the keys that are not equal in all, with every config's value (None where it lacks the
    key).
    """
    names = sorted({k for c in configs for k in c})
    values = {n: [c.get(n) for c in configs] for n in names}
    return {n: v for n, v in values.items() if any(x != v[0] for x in v)}


def check_conditions(runs: Sequence[Run], may_differ: Sequence[str]) -> None:
    """Raise UserError where runs differ in more than algorithm, seed and ``may_differ``.

    The problems that they were evaluated on must be the same as well.
    """
    allowed = (*NOT_CONDITIONS, *may_differ)
    conditions = [{k: v for k, v in r.config.items() if not within(k, allowed)} for r in runs]
    for name, values in differing(conditions).items():
        other = next(i for i, v in enumerate(values) if v != values[0])
        raise UserError(
            name,
            values[other],
            f"in {runs[other].folder}, but {values[0]!r} in {runs[0].folder}: no equal conditions",
            f"compare runs that differ only in algorithm and seed, or add --may-differ {name}",
        )
    for run in runs:
        if run.final.problem_ids != runs[0].final.problem_ids:
            raise UserError(
                "RUNS",
                str(run.folder),
                f"was evaluated on other problems than {runs[0].folder}",
                "compare runs on the same data",
            )


def labelled(runs: Sequence[Run], may_differ: Sequence[str]) -> dict[str, list[Run]]:
    """Runs by label, in order of seed; a label is the algorithm, and what else differs.

    Raises:
        UserError: two runs of one label and seed.
    """
    settings = [
        {k: v for k, v in r.config.items() if within(k, ("algorithm", *may_differ))} for r in runs
    ]
    found: dict[str, list[Run]] = {}
    for run, own in zip(runs, settings, strict=True):
        namesakes = [s for r, s in zip(runs, settings, strict=True) if r.algorithm == run.algorithm]
        more = [f"{k.removeprefix('algorithm.')}={own.get(k)}" for k in differing(namesakes)]
        label = " ".join([run.algorithm, *more])
        group = found.setdefault(label, [])
        twin = next((r for r in group if r.seed == run.seed), None)
        if twin:
            raise UserError(
                "RUNS",
                str(run.folder),
                f"repeats {label} with seed {run.seed} of {twin.folder}",
                "leave one of them out",
            )
        group.append(replace(run, label=label))
    return {label: sorted(group, key=lambda r: r.seed) for label, group in found.items()}
