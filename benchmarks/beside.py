"""Rollouts written beside training on a second core, against one core, and against two DDP ranks.

    python benchmarks/beside.py --out benchmarks/results/beside

The embedded default (NFT), one thread a process, each way in turn: one process; one process with
``rollout.max_staleness=1`` and an engine in a process of its own; two processes under ``trainer=ddp``.
Seconds are those from the end of the second epoch to the end of the last, so that starting up and the
first rollouts are left out; nothing is evaluated in between. Writes ``results.json`` and ``results.md``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import ONE_THREAD, facts, save

EPOCHS, FIRST = 10, 1
SETTINGS = (
    f"trainer.max_epochs={EPOCHS}",
    "callbacks=none",
    "+callbacks.record._target_=nft_lightning.records.rollouts.RolloutRecord",
    "logger=csv",
    "evaluation.problems=4",
    "evaluation.every_epochs=99",
    "trainer.accelerator=cpu",
)
WAYS = {
    "one process": (),
    "an engine beside it": (
        "rollout.max_staleness=1",
        "rollout.engine.process=own",
        "rollout.engine.threads=1",
    ),
    "two DDP ranks": ("trainer=ddp", "trainer.devices=2"),
}


def seconds(words: tuple[str, ...], overrides: list[str]) -> float:
    """Seconds of the epochs after number ``FIRST``, by the times at which rollouts were recorded."""
    environment = {**os.environ, **ONE_THREAD}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nft_lightning.cli.train", *words, *SETTINGS, *overrides]
        command += [f"run_dir={folder}/run"]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        files = [
            Path(folder) / "run" / "rollouts" / f"epoch_{i:04d}.parquet" for i in (FIRST, EPOCHS - 1)
        ]
        first, last = (file.stat().st_mtime for file in files)
    return last - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="for nft-train")
    args = parser.parse_args()
    measured: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way, words in WAYS.items():
            measured[way].append(seconds(words, args.overrides))
    made = facts("one thread a process")
    head = f"{made['machine']}; commit {made['commit']}, {made['date']}; {args.rounds} rounds; "
    text = head + f"{EPOCHS - 1 - FIRST} epochs of the embedded default, NFT\n\n"
    text += "| way | seconds, median | gain over one process, median (each round) |\n|---|---|---|\n"
    for way, found in measured.items():
        gains = [one / other for one, other in zip(measured["one process"], found, strict=True)]
        each = ", ".join(f"{gain:.2f}" for gain in gains)
        text += f"| {way} | {statistics.median(found):.1f} | {statistics.median(gains):.2f} ({each}) |\n"
    save(args.out, text, {**made, "epochs": EPOCHS - 1 - FIRST, "seconds": measured})


if __name__ == "__main__":
    main()
