"""Whether two run folders tell of the same run, to the last bit."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nft_lightning.checkpoints.folder import read_checkpoint

MEASURED = ("time/", "checkpoint/")
"""Metrics of the machine, which no two runs share."""
UNEQUAL = {"run", "epoch_so_far", "pytorch-lightning_version"}


def differences(one: Path, other: Path) -> list[str]:
    """What differs: final state, metric rows, events, rollouts, evaluations, samples."""
    found = [*in_checkpoints(one, other), *in_metrics(one, other)]
    found += [*in_parquet(one, other, "rollouts"), *in_parquet(one, other, "evaluations")]
    if events(one) != events(other):
        found.append("tensorboard")
    if (one / "samples.md").read_bytes() != (other / "samples.md").read_bytes():
        found.append("samples.md")
    return found


def in_checkpoints(one: Path, other: Path) -> Iterator[str]:
    """The last checkpoint: everything but what is measured."""
    a, b = (read_checkpoint(run / "checkpoints" / "last") for run in (one, other))
    for key in (a.keys() | b.keys()) - UNEQUAL:
        yield from unequal(a.get(key), b.get(key), f"checkpoint {key}")
    for key in ("random", "before", "evaluation", "samples_before"):
        yield from unequal(a["run"][key], b["run"][key], f"checkpoint run {key}")


def unequal(a: Any, b: Any, name: str) -> Iterator[str]:
    """The places where nested plain data differs; verdicts' seconds are measured."""
    if name.endswith("Record.seconds"):
        return  # a clock
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or not torch.equal(a, b):
            yield name
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in a.keys() | b.keys():
            yield from unequal(a.get(key), b.get(key), f"{name}.{key}")
    elif name.endswith(".verdicts"):
        if [(*v[:2], *v[3:]) for v in a] != [(*v[:2], *v[3:]) for v in b]:
            yield name
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from unequal(x, y, f"{name}[{i}]")
    elif a != b:
        yield name


def rows(run: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    """The metric rows without what is measured."""
    with open(run / name, newline="") as file:
        return [
            {k: v for k, v in row.items() if v and not k.startswith(MEASURED)}
            for row in csv.DictReader(file)
        ]


def in_metrics(one: Path, other: Path) -> Iterator[str]:
    """Rows of ``metrics.csv`` and ``updates.csv``, as text."""
    for name in ("metrics.csv", "updates.csv"):
        a, b = rows(one, name), rows(other, name)
        if len(a) != len(b):
            yield f"{name} has {len(a)} and {len(b)} rows"
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            differing = sorted(k for k in x.keys() | y.keys() if x.get(k) != y.get(k))
            if differing:
                yield f"{name} row {i}: {', '.join(differing)}"


def in_parquet(one: Path, other: Path, folder: str) -> Iterator[str]:
    """The recorded completions, and what an evaluation says training had cost, its seconds apart."""
    import pyarrow.parquet as pq

    a, b = (sorted((run / folder).iterdir()) for run in (one, other))
    if [p.name for p in a] != [p.name for p in b]:
        yield f"{folder}: other files"
    for x, y in zip(a, b, strict=False):
        tables = [pq.read_table(x), pq.read_table(y)]
        costs = [json.loads((t.schema.metadata or {}).get(b"axes", "{}")) for t in tables]
        if not tables[0].equals(tables[1]) or unequal_but_seconds(*costs):
            yield f"{folder} {x.name}"


def unequal_but_seconds(a: dict[str, float], b: dict[str, float]) -> bool:
    """Do two costs differ, the clock apart?"""
    return {**a, "seconds": 0} != {**b, "seconds": 0}


def events(run: Path) -> list[tuple[str, int, str]]:
    """All of TensorBoard's scalars but what is measured, from all files together."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = []
    for path in sorted((run / "tensorboard").glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.tag.startswith(MEASURED):
                    number = value.tensor.float_val[0] if value.tensor.float_val else value.simple_value
                    found.append((value.tag, event.step, repr(number)))
    return sorted(found)
