"""A healthy run and one that collapses, beside each other, for docs/diagnostics.md.

    python benchmarks/diagnostics.py --out benchmarks/results/diagnostics

Trains the embedded default twice, one thread each, one after the other: as it is, and with ten times its
learning rate. Finished runs are not run again. Writes ``results.json`` and ``results.md``, and draws
docs/diagnostics.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from measuring import ONE_THREAD, save

from nft_lightning.callbacks.collapse import CollapseAlarm
from nft_lightning.common.pictures import INK, STYLE, encoded, label_ends, look
from nft_lightning.records.provenance import PROVENANCE

DOCS = Path(__file__).resolve().parents[1] / "docs"
GROUPS = "batching.minibatch_unit=group"
RUNS = {"healthy": [GROUPS], "collapsed": [GROUPS, "optimizer.learning_rate=2e-3"]}
# The metric, its title, and the bound that docs/metrics.md gives for a healthy run.
WATCHED = {
    "rollout/accuracy": ("accuracy of the rollout", None),
    "policy/entropy_nats": ("entropy, nats per token", None),
    "rollout/response_length_mean_tokens": ("mean response length, tokens", None),
    "objective/loss": ("loss", None),
    "objective/kl_old_new": ("KL(old, new)", 0.1),
    "objective/effective_sample_fraction": ("effective samples, share of tokens", 0.9),
    "objective/negative_clamped_fraction": ("wrong tokens at the floor, share", 0.6),
    "optimizer/gradient_norm": ("gradient norm before clipping", 1.0),
    "rollout/kept_group_fraction": ("groups with a signal, share", None),
}
ALARM = re.compile(r"\[nft_lightning\.callbacks\.collapse\]\[WARNING\] - (.*);")
# Settings of the alarm under which it would have spoken sooner.
SOONER = {"least_effective_fraction": 0.7}
ROLLOUTS = (1, 2, 3, 5, 10, 15)
Run = dict[str, Any]


def train(name: str, overrides: list[str], runs: Path) -> Run:
    """Run it unless it is there, and read its files."""
    folder = runs / name
    words = [*overrides, "trainer.threads=1"]
    if not (folder / "summary.json").exists():
        command = [sys.executable, "-m", "nft_lightning.cli.train", *words, f"run_dir={folder}"]
        environment = {**os.environ, **ONE_THREAD}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    training = [row for row in rows if row["rollout/accuracy"]]
    summary = json.loads((folder / "summary.json").read_text())
    metrics = {key: [number(row[key]) for row in training] for key in WATCHED}
    spoken = alarms(metrics)
    logged = ALARM.findall((folder / "nft-train.log").read_text())
    assert [alarm["sentence"] for alarm in spoken] == logged
    return {
        "command": " ".join(["nft-train", *words]),
        **json.loads((folder / PROVENANCE).read_text())[0],
        "before": summary["before"]["eval/avg_at_8"],
        "after": summary["after"]["eval/avg_at_8"],
        "metrics": metrics,
        "alarms": spoken,
        "alarms_with": {
            f"{key}={value}": alarms(metrics, **{key: value}) for key, value in SOONER.items()
        },
    }


def number(text: str) -> float | None:
    """Return a value with six digits; None for an empty cell."""
    return float(f"{float(text):.6g}") if text else None


def alarms(metrics: dict[str, list[float | None]], **settings: float) -> list[dict[str, Any]]:
    """Return what ``callbacks.collapse`` says to these metrics, and after which rollout, from 1."""
    alarm = CollapseAlarm(**settings)  # type: ignore[arg-type]
    found = []
    for rollout in range(1, len(metrics["rollout/accuracy"]) + 1):
        now = {key: values[rollout - 1] for key, values in metrics.items()}
        for sentence in alarm.lasting({key: value for key, value in now.items() if value is not None}):
            found.append({"rollout": rollout, "sentence": sentence})
    return found


def draw(runs: dict[str, Run]) -> Figure:
    """Draw each metric over the rollouts: both runs, the healthy bound, and the first alarm."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 6.6), layout="constrained")
        panels = figure.subplots(3, 3, sharex=True)
        for panel, (metric, (title, bound)) in zip(panels.ravel(), WATCHED.items(), strict=True):
            ends = {}
            for index, (name, run) in enumerate(runs.items()):
                values = [math.nan if v is None else v for v in run["metrics"][metric]]
                panel.plot(range(1, len(values) + 1), values, **look(index))
                ends[name] = values[-1]
                for alarm in run["alarms"][:1]:
                    panel.axvline(alarm["rollout"], color=look(index)["color"], linewidth=0.8)
            if bound is not None:
                panel.axhline(bound, color=INK, linewidth=0.8, linestyle=":")
            panel.set_title(title)
            if metric != "objective/loss":
                panel.set_ylim(bottom=0)
            if panel in panels[:, -1]:
                label_ends(panel, ends)
        for panel in panels[-1]:
            panel.set_xlabel("rollout")
            panel.set_xticks(ROLLOUTS)
        for run in runs.values():
            for alarm in run["alarms"][:1]:
                panels[0, 0].text(alarm["rollout"] + 0.2, 0.5, "alarm")
    return figure


def table(runs: dict[str, Run]) -> str:
    """Return both runs' values in some rollouts, what the alarm said, and where all comes from."""
    lines = ["| metric | run | " + " | ".join(f"rollout {n}" for n in ROLLOUTS) + " |"]
    lines.append("|---" * (len(ROLLOUTS) + 2) + "|")
    for metric in WATCHED:
        for name, run in runs.items():
            values = [run["metrics"][metric][n - 1] for n in ROLLOUTS]
            cells = " | ".join("" if v is None else f"{v:.3g}" for v in values)
            lines.append(f"| `{metric}` | {name} | {cells} |")
    lines.append("")
    for name, run in runs.items():
        lines.append(
            f"{name}: `{run['command']}`, held-out avg@8 {run['before']:.3f} to {run['after']:.3f};"
        )
        lines.append(f"commit {run['commit']}, {run['date']}, {run['machine']}.")
        for alarm in run["alarms"]:
            lines.append(f"Alarm after rollout {alarm['rollout']}: {alarm['sentence']}.")
        for setting, sooner in run["alarms_with"].items():
            at = ", ".join(str(alarm["rollout"]) for alarm in sooner) or "none"
            lines.append(
                f"With `callbacks.collapse.{setting}` the alarms would come after rollout: {at}."
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/diagnostics"), help="run folders")
    given = parser.parse_args()
    runs = {name: train(name, overrides, given.runs) for name, overrides in RUNS.items()}
    save(given.out, table(runs), runs)
    (DOCS / "diagnostics.png").write_bytes(encoded(draw(runs), "png", 110))


if __name__ == "__main__":
    main()
