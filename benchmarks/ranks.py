"""Two processes of one thread each against one: the whole loop, rollouts and updates.

    python benchmarks/ranks.py --out benchmarks/results/ranks

The embedded default (NFT) with one process and with two under ``trainer=ddp``, in turn; both end
with the same parameters to rounding. Seconds are those from the end of the first epoch to the end of
the last, so that starting up is left out. Writes ``results.json`` and ``results.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from measuring import ONE_THREAD, machine, save

EPOCHS = 8
SETTINGS = (
    f"trainer.max_epochs={EPOCHS}",
    "callbacks=none",
    "+callbacks.evaluations._target_=nft_lightning.records.rollouts.EvaluationRecord",
    "logger=csv",
    "evaluation.problems=4",
    "evaluation.every_epochs=1",
)


def seconds(processes: int, overrides: list[str]) -> float:
    """Training seconds of the epochs after the first."""
    environment = {**os.environ, **ONE_THREAD}
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "nft_lightning.cli.train"]
        if processes > 1:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(processes), "-m", "nft_lightning.cli.train"]
            command += ["trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}"]
        command += [f"run_dir={run_dir}", *SETTINGS, *overrides]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        times = []
        for path in (run_dir / "evaluations").glob("*.parquet"):
            axes = json.loads(pq.read_schema(path).metadata[b"axes"])
            if "_rank" not in path.stem or path.stem.endswith("_rank0"):
                times.append((axes["epochs"], axes["seconds"]))
    ordered = dict(sorted(times))
    return ordered[EPOCHS] - ordered[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="for nft-train")
    args = parser.parse_args()
    pairs = [(seconds(1, args.overrides), seconds(2, args.overrides)) for _ in range(args.pairs)]
    gains = [one / two for one, two in pairs]
    made_on = machine("one thread a process")
    found = {"machine": made_on, "epochs": EPOCHS - 1, "seconds": pairs, "gains": gains}
    one, two = (statistics.median(side) for side in zip(*pairs, strict=True))
    text = (
        f"{made_on}; {EPOCHS - 1} epochs of the embedded default, NFT\n\n"
        "| processes | seconds, median | gain, median (each pair) |\n|---|---|---|\n"
        f"| 1 | {one:.1f} | 1 |\n"
        f"| 2, DDP over gloo | {two:.1f} | {statistics.median(gains):.2f} "
        f"({', '.join(f'{g:.2f}' for g in gains)}) |\n"
    )
    save(args.out, text, found)


if __name__ == "__main__":
    main()
