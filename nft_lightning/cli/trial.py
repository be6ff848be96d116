"""One run of a multirun: a process of its own, whose failure ends nothing but itself."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from nft_lightning.config import CONF_DIR

log = logging.getLogger(__name__)
NOT_PASSED_ON = ("sweep", "run_dir")


def trial(overrides: list[str], search_path: list[str], folder: Path) -> float:
    """Run ``nft-train OVERRIDES`` in a process of its own; its final avg@k, nan where it failed.

    Writes ``output.txt`` and ``trial.json`` (proposed, resolved, objective) into ``folder``.

    Raises:
        SystemExit: the run did not use what was proposed, so that no result would mean anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    passed = [o for o in overrides if o.lstrip("+~").partition("=")[0] not in NOT_PASSED_ON]
    command = [sys.executable, "-m", "nft_lightning.cli.train", *search_path, *passed]
    command.append(f"run_dir={quoted(str(folder))}")
    with open(folder / "output.txt", "w", encoding="utf-8") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if code != 0:
        lines = (folder / "output.txt").read_text(encoding="utf-8").strip().splitlines()
        log.warning("%s failed with code %d: %s", folder, code, lines[-1] if lines else "no output")
        return math.nan
    summary = json.loads((folder / "summary.json").read_text())
    resolved = check_resolved(passed, OmegaConf.load(folder / "config.yaml"), summary)  # type: ignore[arg-type]
    objective = final_accuracy(summary)
    record = {"proposed": proposed(passed), "resolved": resolved, "objective": objective}
    (folder / "trial.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    return objective


def quoted(text: str) -> str:
    """A Hydra value that holds commas and equal signs."""
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


def final_accuracy(summary: dict[str, Any]) -> float:
    """avg@k of the last evaluation."""
    after: dict[str, float] = summary["after"]
    name = next(k for k in after if k.startswith("eval/avg_at_") and k[-1].isdigit())
    return float(after[name])


def proposed(overrides: list[str]) -> dict[str, Any]:
    """The values that overrides give, by dotted name; choices of config groups are left out."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return {
        o.key_or_group: o.value()
        for o in parsed
        if not o.is_delete() and not (CONF_DIR / o.key_or_group).is_dir()
    }


def check_resolved(overrides: list[str], config: DictConfig, summary: dict[str, Any]) -> dict[str, Any]:
    """What the finished run really used under each proposed name; SystemExit where it differs."""
    used = {name: OmegaConf.select(config, name) for name in proposed(overrides)}
    if "optimizer.learning_rate" in used:
        used["optimizer.learning_rate"] = summary["learning_rate"]
    for name, value in proposed(overrides).items():
        if used[name] != value and str(used[name]) != str(value):
            raise SystemExit(f"error: {name}={value!r} was proposed, but the run used {used[name]!r}.")
    return used
