"""Kill a run with SIGKILL at many moments, resume it, and compare it with the undisturbed one.

    python benchmarks/reliability.py --out benchmarks/results/reliability
    python benchmarks/reliability.py --kills 6 --skip default faults --out OUT
    python benchmarks/reliability.py --skip default faults --out OUT --overrides rollout.max_staleness=2

Moments cycle through the phases of a run; which occurrence of the phase, and how far into it, is
drawn. Writes ``results.json`` and ``results.md``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from measuring import ONE_THREAD, machine, python, save

BRIEF = (
    "rollout.problems_per_rollout=16",
    "rollout.completions_per_problem=4",
    "evaluation.problems=12",
    "evaluation.completions_per_problem=4",
    "evaluation.every_epochs=2",
    "trainer.max_epochs=4",
    "callbacks.progress=null",
    "trainer.threads=1",
)
PHASES = (
    "start",
    "generate",
    "checkpoint",
    "verify",
    "train",
    "sync",
    "evaluate",
    "optimizer",
    "logging",
    "old_logprobs",
)
FAULTS = Path(__file__).resolve().parents[1] / "tests" / "resume" / "test_faults.py"


def child(trace: str, event: int, delay: float, arguments: list[str]) -> None:
    """nft-train, here; notes each phase in ``trace``, and dies ``delay`` s into number ``event``."""
    from nft_lightning.checkpoints.callback import Checkpoints
    from nft_lightning.common.timing import PhaseTimer
    from nft_lightning.records.rollouts import RolloutRecord

    count = 0

    def begins(phase: str) -> None:
        nonlocal count
        with open(trace, "a") as file:
            file.write(f"{time.time()} {phase}\n")
        if count == event:
            die_after(delay)
        count += 1

    made = PhaseTimer.__init__

    def listened(self: PhaseTimer) -> None:
        made(self)
        self.listeners.append(begins)

    PhaseTimer.__init__ = listened
    for cls, name, phase in (
        (Checkpoints, "write", "checkpoint"),
        (RolloutRecord, "on_train_epoch_end", "logging"),
    ):
        announce(cls, name, phase, begins)
    begins("start")
    from nft_lightning.cli.train import main

    sys.argv = ["nft-train", *arguments]
    main()
    begins("end")


def announce(cls: Any, name: str, phase: str, begins: Any) -> None:
    original = getattr(cls, name)

    def wrapped(*given: Any) -> Any:
        begins(phase)
        return original(*given)

    setattr(cls, name, wrapped)


def die_after(seconds: float) -> None:
    def die() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()


def launch(trace: Path, event: int, delay: float, arguments: list[str]) -> tuple[int, float]:
    """A child process; its exit code and when it was started."""
    environment = {**os.environ, **ONE_THREAD}
    started = time.time()
    command = [sys.executable, __file__, "--child", str(trace), str(event), str(delay), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode not in (0, 75, -signal.SIGKILL):
        raise RuntimeError(result.stderr)
    return result.returncode, started


def events(trace: Path) -> list[tuple[float, str]]:
    lines = (line.split() for line in trace.read_text().splitlines())
    return [(float(when), phase) for when, phase in lines]


def kills(count: int, work: Path, seed: int, overrides: list[str]) -> list[dict[str, Any]]:
    """Each kill with its moment and what differed afterwards."""
    from equal import differences

    reference, trace = work / "reference", work / "reference.txt"
    launch(trace, -1, 0.0, [*BRIEF, *overrides, f"run_dir={reference}"])
    timeline = events(trace)
    drawn = random.Random(seed)
    found = []
    for number in range(count):
        phase = PHASES[number % len(PHASES)]
        event = drawn.choice([i for i, (_, p) in enumerate(timeline) if p == phase])
        lasts = timeline[event + 1][0] - timeline[event][0]
        delay = drawn.random() * lasts
        run, log = work / f"run_{number}", work / f"run_{number}.txt"
        command = [*BRIEF, *overrides, f"run_dir={run}", "resume=auto"]
        code, _ = launch(log, event, delay, command)
        at = len(list((run / "checkpoints").glob("epoch_*"))) if run.exists() else 0
        partial = bool(list((run / "checkpoints").glob(".partial-*"))) if run.exists() else False
        launch(log, -1, 0.0, command)
        differs = differences(reference, run)[:10]
        found.append(
            {
                "phase": phase,
                "event": event,
                "seconds_into_phase": delay,
                "killed": code == -signal.SIGKILL,
                "checkpoints_then": at,
                "half_written_checkpoint": partial,
                "differences": differs,
            }
        )
        sys.stderr.write(f"{number + 1}/{count} {phase}: {differs or 'identical'}\n")
        shutil.rmtree(run, ignore_errors=True)
    return found


def default_run(work: Path) -> dict[str, float]:
    """Checkpoint overhead of the default run, and how soon a resumed one makes its first new update."""
    run, trace = work / "default", work / "default.txt"
    launch(trace, -1, 0.0, [f"run_dir={run}", "trainer.threads=1"])
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    spent = sum(float(r.get("time/checkpoint_seconds") or 0) for r in rows)
    sizes = [float(r["checkpoint/bytes"]) for r in rows if r.get("checkpoint/bytes")]
    seconds = json.loads((run / "summary.json").read_text())["training_seconds"]
    found = {
        "training_seconds": seconds,
        "checkpoint_seconds": spent,
        "checkpoints": float(len(sizes)),
        "checkpoint_mib": sizes[-1] / 2**20,
        "overhead": spent / (seconds - spent),
    }
    within = [i for i, (_, p) in enumerate(events(trace)) if p == "optimizer"][5]
    after = [i for i, (_, p) in enumerate(events(trace)) if p == "sync"][3]
    for name, event in (("within_an_epoch", within), ("between_epochs", after)):
        again, log = work / f"again_{name}", work / f"again_{name}.txt"
        command = [f"run_dir={again}", "trainer.threads=1", "resume=auto", "trainer.max_epochs=3"]
        launch(log, event, 0.0, [*command, "callbacks.checkpoint.every_minutes=0"])
        log.unlink()
        _, started = launch(log, -1, 0.0, command)
        first = next(when for when, phase in events(log) if phase == "optimizer")
        found[f"resume_seconds_{name}"] = first - started
    return found


def faults(work: Path) -> list[tuple[str, str]]:
    """What each injected fault leads to, and whether it did, from the tests of them."""
    import ast

    report = work / "faults.xml"
    command = [sys.executable, "-m", "pytest", "-q", str(FAULTS), f"--junitxml={report}"]
    subprocess.run(command, capture_output=True, text=True)
    cases: dict[str, list[bool]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        good = case.find("failure") is None and case.find("error") is None
        if case.find("skipped") is None:
            cases.setdefault(case.get("name", "").partition("[")[0], []).append(good)
    tree = ast.parse(FAULTS.read_text())
    said = {n.name: ast.get_docstring(n) for n in tree.body if isinstance(n, ast.FunctionDef)}
    return [(said[n] or n, f"{sum(good)}/{len(good)}") for n, good in cases.items()]


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| what | outcome |", "| --- | --- |"]
    if tried := found.get("kills"):
        same = sum(k["killed"] and not k["differences"] for k in tried)
        lines.append(
            f"| SIGKILL at a random moment, then resumed: identical results | {same}/{len(tried)} |"
        )
        for phase in PHASES:
            at = [k for k in tried if k["phase"] == phase]
            if at:
                same = sum(k["killed"] and not k["differences"] for k in at)
                lines.append(f"| ... of these in {phase.replace('_', ' ')} | {same}/{len(at)} |")
    if run := found.get("default"):
        soon, late = run["resume_seconds_within_an_epoch"], run["resume_seconds_between_epochs"]
        lines += [
            f"| checkpoints of the default run, of its time | {run['overhead']:.2%} |",
            f"| size of one | {run['checkpoint_mib']:.1f} MiB |",
            f"| resumed within an epoch: first new update after | {soon:.1f} s |",
            f"| resumed between epochs, the rollout included | {late:.1f} s |",
        ]
    lines += [f"| {said.splitlines()[0]} | {good} |" for said, good in found.get("faults", [])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", nargs="*", default=[], choices=["kills", "default", "faults"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--overrides", nargs="*", default=[], help="of the runs that are killed")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "results.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as work:
        parts = {
            "kills": lambda: kills(given.kills, Path(work), given.seed, given.overrides),
            "default": lambda: default_run(Path(work)),
            "faults": lambda: faults(Path(work)),
        }
        for name, measure in parts.items():
            if name not in given.skip:
                found[name] = measure()
    found["overrides"] = given.overrides
    save(given.out, table(found) + f"\n{machine(python())}.\n", found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
    else:
        main()
