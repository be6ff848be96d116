"""One run of a multirun or a search: a process of its own, whose failure ends nothing but itself."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import CONF_DIR
from nft_lightning.common.text import accuracy_name, key_of, quoted
from nft_lightning.distributed.children import end
from nft_lightning.search.failed import note

log = logging.getLogger(__name__)
NOT_PASSED_ON = ("sweep", "pruner", "run_dir")
POLL_SECONDS, GRACE_SECONDS = 0.5, 30.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its summary where it finished; else the error, or ``pruned``."""

    summary: dict[str, Any] | None = None
    error: str = ""
    pruned: bool = False


def trial(overrides: list[str], search_path: list[str], folder: Path, multirun: Path) -> float:
    """Return the final avg@k of ``nft-train OVERRIDES`` in a process of its own; nan where it failed.

    How it ended is noted in the folder ``multirun``.
    """
    outcome = run_apart(overrides, search_path, folder)
    note(multirun, folder, outcome.summary is not None)
    return final_accuracy(outcome.summary) if outcome.summary else math.nan


def run_apart(
    overrides: list[str],
    search_path: list[str],
    folder: Path,
    stop: Callable[[Path], bool] | None = None,
) -> Outcome:
    """Run ``nft-train OVERRIDES`` in a process of its own, into ``folder``.

    ``stop`` is asked about the folder from time to time; where it says yes, the run is ended as pruned.
    Writes ``output.txt`` and, when finished, ``trial.json`` (proposed, resolved, objective).

    Raises:
        SystemExit: the run did not use what was proposed, so that no result would mean anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    passed = [o for o in overrides if key_of(o) not in NOT_PASSED_ON]
    command = [sys.executable, "-m", "nft_lightning.cli.train", *search_path, *passed]
    command.append(f"run_dir={quoted(str(folder))}")
    # The folder may hold another run, whose output stays.
    with open(folder / "output.txt", "a", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            pruned = wait(process, lambda: stop is not None and stop(folder))
        finally:
            end(process, GRACE_SECONDS)
    if pruned:
        return Outcome(pruned=True)
    if process.returncode != 0:
        lines = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        error = f"code {process.returncode}: {last.strip()}"
        log.warning("%s failed with %s", folder, error)
        return Outcome(error=error)
    summary = json.loads((folder / "summary.json").read_text())
    resolved = check_resolved(passed, OmegaConf.load(folder / "config.yaml"), summary)  # type: ignore[arg-type]
    record = {
        "proposed": proposed(passed),
        "resolved": resolved,
        "objective": final_accuracy(summary),
    }
    (folder / "trial.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    return Outcome(summary)


def wait(process: subprocess.Popen[bytes], stop: Callable[[], bool]) -> bool:
    """Until the process has ended, or ``stop`` says so, which is returned."""
    while True:
        try:
            process.wait(POLL_SECONDS)
            return False
        except subprocess.TimeoutExpired:
            if stop():
                return True


def final_accuracy(summary: dict[str, Any]) -> float:
    """avg@k of the last evaluation."""
    after: dict[str, float] = summary["after"]
    return float(after[accuracy_name(after)])


def proposed(overrides: list[str]) -> dict[str, Any]:
    """Return the values that overrides give, by dotted name; choices of config groups are left out."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return {
        o.key_or_group: o.value()
        for o in parsed
        if not o.is_delete() and not (CONF_DIR / o.key_or_group).is_dir()
    }


def check_resolved(overrides: list[str], config: DictConfig, summary: dict[str, Any]) -> dict[str, Any]:
    """Return what the finished run really used under each proposed name; SystemExit where it differs."""
    used = {name: OmegaConf.select(config, name) for name in proposed(overrides)}
    if "optimizer.learning_rate" in used:
        used["optimizer.learning_rate"] = summary["learning_rate"]
    for name, value in proposed(overrides).items():
        if used[name] != value and str(used[name]) != str(value):
            raise SystemExit(f"error: {name}={value!r} was proposed, but the run used {used[name]!r}.")
    return used
