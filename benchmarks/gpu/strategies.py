"""The same updates by every strategy on GPUs: parameters against one process, seconds, memory, resume.

    python benchmarks/gpu/strategies.py --devices 2 --out benchmarks/results/gpu_strategies

Needs two NVIDIA GPUs or more (``--devices``) with 30 GiB free each, 40 GB of disk in TMPDIR for
checkpoints, and ``pip install '.[deepspeed]'`` for ZeRO; nothing is downloaded. Each
strategy is nft-train under torchrun: three updates of NFT, then a resume from their checkpoint for three
more, against one process on one GPU that made all six. All train on the completions of the first run;
how many of them they would have written alike is counted. fp32 has TF32 off, and a bound of 1e-5 on the
greatest difference of a parameter, beyond which the exit code is 1. bf16-mixed is measured, against one
process in bf16-mixed; the norm of the difference tells more there, because AdamW moves a parameter of
little gradient by its sign.

The models: the embedded policy, and Qwen3-0.6B's layers with random weights and the embedded policy's
vocabulary (0.44 billion parameters), for seconds and memory that mean something.

    python benchmarks/gpu/strategies.py --rehearse --models tiny --trainers ddp fsdp2

runs the whole with two processes on a CPU.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import (
    WATCH,
    needs,
    parser,
    peak_gib,
    refused,
    save_random_model,
    seconds_of,
    train,
    watched,
    write,
)

BOUND = 1e-5
UPDATES = 3
# One line for each strategy: the words of nft-train that choose it.
TRAINERS = {
    "ddp": ["trainer=ddp"],
    "fsdp": ["trainer=fsdp"],
    "fsdp2": ["trainer=fsdp2"],
    "zero2": ["trainer=zero2"],
    "zero3": ["trainer=zero3"],
}
PRECISIONS = ("32-true", "bf16-mixed")
MODELS = ("tiny", "qwen3_0.6b")
SETTINGS = (
    f"batching.updates_per_rollout={UPDATES}",
    "evaluation.completions_per_problem=1",
    "evaluation.max_new_tokens=4",
    "evaluation.every_epochs=100",
    "rollout.engine._target_=benchmarks.gpu.stored.StoredEngineConfig",
    "logger=csv",
    "callbacks=none",
    "+callbacks.checkpoint._target_=nft_lightning.checkpoints.callback.Checkpoints",
    "+callbacks.checkpoint.run_dir=${run_dir}",
    "+callbacks.checkpoint.monitor=eval/avg_at_1",
    "+callbacks.checkpoint.every_minutes=null",
    WATCH,
)


class Bench:
    """One model: its words, the stored rollouts, and the runs' folders under ``parent``."""

    def __init__(self, given: argparse.Namespace, model: str, parent: Path) -> None:
        self.given, self.parent = given, parent
        # How far three updates of one process led, by the norm.
        self.path = math.nan
        self.accelerator = f"trainer.accelerator={'cpu' if given.rehearse else 'gpu'}"
        self.words = [
            *SETTINGS,
            f"evaluation.problems={given.devices}",
            f"rollout.problems_per_rollout={given.problems}",
            f"rollout.completions_per_problem={given.completions}",
            f"+rollout.engine.file={parent / 'rollouts.json'}",
            self.accelerator,
            f"trainer.threads={1 if given.rehearse else 0}",
        ]
        if model != "tiny":
            shape = "rehearsal" if given.rehearse else model
            save_random_model(parent / "model", shape, vocab_size=101)
            self.words += [
                "model=hf",
                f"model.path={parent / 'model'}",
                "verifier=callable",
                "verifier.function=benchmarks.gpu.stored.coin",
                f"rollout.max_new_tokens={64 if given.rehearse else 512}",
                "batching.max_tokens_per_micro_batch=4096",
                "rollout.engine.max_rows=64",
            ]

    def run(self, name: str, epochs: int, words: Sequence[str], processes: int = 1) -> str | None:
        """Train ``epochs`` of ``UPDATES`` updates, or continue to them; why it could not."""
        also = [f"run_dir={self.parent / name}", "resume=auto", f"trainer.max_epochs={epochs}"]
        words = [*words, f"trainer.devices={processes}", *self.words, *also]
        return train(words, processes, NVIDIA_TF32_OVERRIDE="0")

    def parameters(self, name: str, epochs: int) -> dict[str, Any]:
        """After ``epochs``."""
        from nft_lightning.checkpoints.folder import read_checkpoint

        folder = self.parent / name / "checkpoints" / f"epoch_{epochs:05d}"
        return read_checkpoint(folder)["state_dict"]

    def measured(self, name: str) -> dict[str, Any]:
        """Of the run that ended last: seconds of an update, GiB of each rank, completions as stored."""
        ranks = watched(self.parent / name)
        counts = [rank["stored"] for rank in ranks]
        asked = sum(count["asked"] for count in counts)
        equal = sum(count["equal"] for count in counts)
        return {
            "seconds_per_update": max(seconds_of(rank["updates"]) for rank in ranks),
            "peak_gib_by_rank": [round(peak_gib(rank["updates"]), 3) for rank in ranks],
            "equal_completions_fraction": equal / asked if asked else None,
        }

    def reference(self, precision: str) -> dict[str, Any] | str:
        """One process, all six updates; or why it could not."""
        name = f"one_{precision}"
        words = ["trainer=gpu", f"trainer.precision={precision}"]
        if said := self.run(name, 2, words):
            return said
        moved, self.path = apart(self.parameters(name, 1), self.parameters(name, 2))
        return {"trainer": "one process", "moved": moved, **self.measured(name)}

    def compared(self, trainer: str, precision: str) -> dict[str, Any] | str:
        """Three updates by ``trainer`` and three more after a resume, or why it could not."""
        name, one = f"{trainer}_{precision}", f"one_{precision}"
        words = [*TRAINERS[trainer], f"trainer.precision={precision}"]
        if said := refused([*words, "trainer.devices=1", self.accelerator]):
            return said
        row: dict[str, Any] = {"trainer": trainer}
        for epochs, suffix in ((1, ""), (2, "_resumed")):
            if said := self.run(name, epochs, words, self.given.devices):
                return said
            greatest, norm = apart(self.parameters(one, epochs), self.parameters(name, epochs))
            found = {"difference": greatest, "relative": norm / self.path, **self.measured(name)}
            row |= {f"{key}{suffix}": value for key, value in found.items()}
        shutil.rmtree(self.parent / name)
        return row


def apart(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """The greatest difference of a parameter, and the norm of all; infinite where the names differ."""
    if one.keys() != other.keys():
        return math.inf, math.inf
    gaps = [one[n].double() - other[n].double() for n in one]
    greatest = max(float(gap.abs().max()) for gap in gaps)
    return greatest, math.sqrt(sum(float(gap.square().sum()) for gap in gaps))


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each model, precision and trainer; one that could not run says why."""
    rows = []
    for model in given.models:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(given, model, Path(folder))
            for precision in given.precisions:
                about = {"model": model, "precision": precision}
                one = bench.reference(precision)
                if isinstance(one, str):
                    sys.exit(f"error: one process, {precision}: {one}")
                rows.append({**about, **one})
                for trainer in given.trainers:
                    row = bench.compared(trainer, precision)
                    if isinstance(row, str):
                        row = {"trainer": trainer, "not_run": row}
                    elif precision == "32-true":
                        row["within_bound"] = max(row["difference"], row["difference_resumed"]) <= BOUND
                    rows.append({**about, **row})
                    sys.stderr.write(f"{model} {precision} {trainer}: done\n")
    return rows


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of results.md."""

    def number(key: str, form: str) -> str:
        return format(row[key], form) if row.get(key) is not None else "-"

    found = {key: row[key] for key in ("model", "precision", "trainer")}
    if "not_run" in row:
        return found | {"after 3 updates": f"not run: {row['not_run']}"}
    first = number("difference", ".1e") if "difference" in row else f"moved by {row['moved']:.1e}"
    return found | {
        "after 3 updates": first,
        "after resume and 3 more": number("difference_resumed", ".1e"),
        "its norm, of 3 updates'": number("relative_resumed", ".1e"),
        f"within {BOUND:g}": {True: "yes", False: "**no**"}.get(row.get("within_bound"), "-"),
        "s an update": number("seconds_per_update", ".3f"),
        "after resume": number("seconds_per_update_resumed", ".3f"),
        "peak GiB of each rank": ", ".join(f"{x:.2f}" for x in row["peak_gib_by_rank"]),
        "completions alike": number("equal_completions_fraction", ".3f"),
    }


def main() -> None:
    """Measure and write, or say what is missing."""
    options = parser(__doc__)
    options.add_argument("--devices", type=int, default=2, help="processes of a strategy, a GPU each")
    options.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    options.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    options.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options.add_argument("--problems", type=int, default=24)
    options.add_argument("--completions", type=int, default=8)
    given = options.parse_args()
    missing = None if given.rehearse else needs("strategies.py", given.devices, 30)
    if missing:
        sys.exit(f"error: {missing}")
    rows = measure(given)
    about = (
        f"Greatest difference of a parameter from one process's; {given.devices} processes, NFT, "
        f"{UPDATES} updates on {given.problems} problems x {given.completions} completions; bound "
        f"{BOUND:g} in fp32, TF32 off;"
    )
    write(given, {"bound": BOUND, "rows": rows}, about, [shown(row) for row in rows])
    if far := [row["trainer"] for row in rows if row.get("within_bound") is False]:
        sys.exit(f"error: parameters are further apart than {BOUND:g} with {', '.join(far)}")


if __name__ == "__main__":
    main()
