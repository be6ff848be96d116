"""Peak memory and time of an update with each option that saves memory, measured and by nft-plan.

    python benchmarks/gpu/memory.py --out benchmarks/results/gpu_memory

Needs one NVIDIA GPU with 28 GiB free, and for all options a C++ compiler and
``pip install '.[lora,bitsandbytes]'``; nothing is downloaded. Each option is a run of
nft-train of its own: Qwen3-0.6B's shape with random weights, supervised fine-tuning (nothing is sampled)
on rows of equal length, one micro-batch an update; nft-plan gets the same words. Memory is the most
that torch's allocator gave out within an update, and reserved; seconds are the median update's, without
the first. The plan's time takes the GPU to do 0.4 of its dense peak (``plan.training_utilization``). An
option that is refused, or that memory does not hold, says so.

    python benchmarks/gpu/memory.py --rehearse --rows 2 --prompt 32 --answer 96

runs the whole with a tiny model on a CPU, where memory is the whole process's.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import (
    WATCH,
    facts,
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

# Each option as the words of nft-train, beside those of every run.
OPTIONS = {
    "none": [],
    "gradient_checkpointing": ["policy.gradient_checkpointing=true"],
    "compile": ["policy.compile=true"],
    "lora_rank=16": ["policy.lora_rank=16"],
    "quantize=4bit, lora_rank=16": ["policy.quantize=4bit", "policy.lora_rank=16"],
    "precision=bf16-mixed": ["trainer.precision=bf16-mixed"],
    "precision=bf16-true": ["trainer.precision=bf16-true"],
    "adamw_8bit": ["optimizer.name=adamw_8bit"],
    "adamw_paged_8bit": ["optimizer.name=adamw_paged_8bit"],
    "adamw_cpu_offload": ["optimizer.name=adamw_cpu_offload"],
}
UPDATES = 5
# nft-plan's names, longest first, as torch names the devices.
GPUS = {
    "a100_40gb": ("A100", "40GB"),
    "rtx4090": ("4090",),
    "a100": ("A100",),
    "h100": ("H100",),
    "h200": ("H200",),
    "b200": ("B200",),
    "l40s": ("L40S",),
}


def problems(file: Path, given: argparse.Namespace) -> None:
    """Sums whose prompt and solution have as many characters, each a token, as a row has room for."""
    draw = random.Random(0)
    with file.open("w") as lines:
        for _ in range(UPDATES * given.rows):
            # The solution gets an end-of-sequence token.
            sizes = (given.prompt, given.answer - 1)
            text, solution = ("".join(draw.choices("0123456789", k=size)) for size in sizes)
            lines.write(json.dumps({"problem": text, "answer": "1", "solution": solution}) + "\n")


def words(given: argparse.Namespace, folder: Path) -> list[str]:
    """What all options share, for nft-train and nft-plan."""
    return [
        "algorithm=sft",
        "model=hf",
        f"model.path={folder / 'model'}",
        "problems=jsonl",
        "problems.prompt.template=plain",
        f"problems.path={folder / 'problems.jsonl'}",
        f"problems.eval_path={folder / 'problems.jsonl'}",
        "trainer=gpu",
        f"trainer.accelerator={'cpu' if given.rehearse else 'gpu'}",
        "trainer.precision=32-true",
        "trainer.max_epochs=1",
        "policy.logprobs=fused",
        f"rollout.problems_per_rollout={UPDATES * given.rows}",
        "rollout.completions_per_problem=1",
        f"rollout.max_new_tokens={given.answer}",
        f"batching.updates_per_rollout={UPDATES}",
        f"batching.max_tokens_per_micro_batch={given.rows * (given.prompt + given.answer)}",
        "evaluation.problems=1",
        "evaluation.completions_per_problem=1",
        "evaluation.max_new_tokens=1",
        "evaluation.every_epochs=100",
        "logger=csv",
        "callbacks=none",
    ]


def measured(run_dir: Path) -> dict[str, float]:
    """Of the run in ``run_dir``."""
    (rank,) = watched(run_dir)
    seconds = seconds_of(rank["updates"])
    return {
        "allocated_gib": peak_gib(rank["updates"]),
        "reserved_gib": peak_gib(rank["updates"], "reserved_bytes"),
        "seconds": seconds,
        "tokens_per_second": rank["updates"][-1]["tokens"] / seconds,
    }


def planned(run: list[str], given: argparse.Namespace) -> dict[str, float]:
    """What nft-plan says of an update of the same run."""
    from nft_lightning.cli.entry import compose_or_explain
    from nft_lightning.planning.plan import as_data, plan_of

    assumed = {
        "gpu": given.gpu,
        "mean_prompt_tokens": given.prompt,
        "longest_prompt_tokens": given.prompt,
        "mean_response_tokens": given.answer,
        "uniform_fraction": 0.0,
    }
    asked = [*run, *(f"plan.{key}={value}" for key, value in assumed.items())]
    plan = as_data(plan_of(compose_or_explain("plan", asked)))
    phases, seconds = plan["memory_gib"], plan["iteration"]["seconds"]
    return {
        "planned_gib": max(phases[name]["total"] for name in ("forward and backward", "optimizer step")),
        "planned_seconds": (seconds["training"] + seconds["optimizer"]) / UPDATES,
    }


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each option; one that could not run says why."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_random_model(folder / "model", "rehearsal" if given.rehearse else "qwen3_0.6b")
        problems(folder / "problems.jsonl", given)
        for place, option in enumerate(given.options):
            run, run_dir = [*words(given, folder), *OPTIONS[option]], folder / f"run_{place}"
            row: dict[str, Any] = {"option": option, **planned(run, given)}
            said = refused(run) or train([*run, WATCH, f"run_dir={run_dir}"])
            row |= {"not_run": said} if said else measured(run_dir)
            rows.append(row)
            sys.stderr.write(f"{option}: done\n")
    return rows


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of results.md."""
    plan = {
        "planned GiB": f"{row['planned_gib']:.2f}",
        "planned s": f"{row['planned_seconds']:.3f}",
    }
    if "not_run" in row:
        return {"option": row["option"], "peak GiB": f"not run: {row['not_run']}", **plan}
    return {
        "option": row["option"],
        "peak GiB": f"{row['allocated_gib']:.2f}",
        "reserved GiB": f"{row['reserved_gib']:.2f}",
        "planned GiB": plan["planned GiB"],
        "planned / measured": f"{row['planned_gib'] / row['allocated_gib']:.2f}",
        "s an update": f"{row['seconds']:.3f}",
        "tokens a second": f"{row['tokens_per_second']:,.0f}",
        "planned s": plan["planned s"],
        "planned s / measured": f"{row['planned_seconds'] / row['seconds']:.2f}",
    }


def gpu_type() -> str | None:
    """This GPU by nft-plan's name, or None."""
    name = facts()["device"]
    return next((known for known, marks in GPUS.items() if all(m in name for m in marks)), None)


def given_rows(script: str, about: str | None, what: str, choices: Iterable[str]) -> argparse.Namespace:
    """The command line of a check that trains on rows of one shape; says what is missing, and ends.

    ``--WHAT`` takes those of ``choices`` that are measured.
    """
    options = parser(about)
    options.add_argument(f"--{what}", nargs="+", choices=list(choices), default=list(choices))
    options.add_argument("--rows", type=int, default=4, help="of an update")
    options.add_argument("--prompt", type=int, default=256, help="tokens of a row's prompt")
    options.add_argument("--answer", type=int, default=768, help="tokens of its answer")
    options.add_argument("--gpu", default=None, help="nft-plan's name of this GPU (plan.gpu)")
    given = options.parse_args()
    missing = None if given.rehearse else needs(script, free_gib=28)
    if missing:
        sys.exit(f"error: {missing}")
    given.gpu = given.gpu or ("h100" if given.rehearse else gpu_type())
    if given.gpu is None:
        options.error(f"nft-plan does not know {facts()['device']}: give --gpu {' | '.join(GPUS)}")
    return given


def main() -> None:
    """Measure and write, or say what is missing."""
    given = given_rows("memory.py", __doc__, "options", OPTIONS)
    rows = measure(given)
    about = (
        f"{'A tiny shape' if given.rehearse else 'The shape of Qwen3-0.6B'}, random weights, 32-true "
        "where not named, fused log-probabilities; an update is one micro-batch of "
        f"{given.rows} rows of {given.prompt} + {given.answer} tokens; plan.gpu={given.gpu};"
    )
    # The columns are those of a row that ran.
    lines = sorted(map(shown, rows), key=lambda row: "s an update" not in row)
    write(given, {"plan_gpu": given.gpu, "rows": rows}, about, lines)


if __name__ == "__main__":
    main()
