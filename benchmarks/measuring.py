"""What benchmarks share: a measurement in a process of its own, and results on disk."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nft_lightning.common.text import interval
from nft_lightning.records.provenance import provenance
from nft_lightning.stats.intervals import over_seeds

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""The environment of a process whose torch computes on one thread, and waits without spinning."""


def in_turn(script: str, ways: Sequence[str], tokens: int, rounds: int) -> dict[str, list[Any]]:
    """What ``script --way WAY --tokens N`` prints as JSON, each way once a round, by way."""
    found: dict[str, list[Any]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, results in found.items():
            command = [sys.executable, script, "--way", way, "--tokens", str(tokens)]
            results.append(json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL)))
    return found


def machine(*more: str) -> str:
    """The processor, its cores, and what else is to be said of how something was measured."""
    return ", ".join([provenance()["machine"], *more])


def facts(*more: str) -> dict[str, str]:
    """Commit, date and machine of a measurement, for its results file."""
    return {**provenance(), "machine": machine(*more)}


def stated(made: dict[str, str]) -> str:
    """What :func:`facts` found, as a results file says it."""
    return f"{made['commit']}, {made['date']}, {made['machine']}"


def paired(differences: Sequence[float]) -> str:
    """The mean of differences by seed with its 95 % interval over them."""
    if len(differences) < 2:
        return "one seed"
    found = over_seeds(list(differences))
    return interval(found.mean, found.low, found.high, "+")


def python() -> str:
    """The version of Python."""
    return f"Python {platform.python_version()}"


def save(folder: Path | None, text: str, data: Any = None, name: str = "results") -> None:
    """Print ``text``; where there is a folder write it as ``name.md``, and ``data`` as ``name.json``."""
    print(text)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    if data is not None:
        (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
