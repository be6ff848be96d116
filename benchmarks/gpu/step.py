"""One training step at a shape of 0.6 B: nft-train beside a bare loop, by precision.

    python benchmarks/gpu/step.py --out benchmarks/results/gpu_step

Needs one NVIDIA GPU with 28 GiB free; nothing is downloaded. nft-train learns rows of equal length by
supervised fine-tuning, one micro-batch per update, with fused log-probabilities. The bare loop does a
forward pass, cross-entropy on the answers, a backward pass, clipping and AdamW on as many tokens of the
same model, with all logits. MFU is the FLOPs of forward and backward passes, nothing counted twice, per
second, as a share of the GPU's dense peak (``nft_lightning/planning/gpus.json``). The bare loop steps on
bf16 weights in bf16-true, where nft-train keeps fp32 masters.

    python benchmarks/gpu/step.py --rehearse --rows 2 --prompt 32 --answer 96

runs the whole with a tiny model on a CPU, where the peak is that of an H100.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import WATCH, random_model, save_random_model, train, write
from memory import UPDATES, given_rows, measured, problems, words

PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


def bare_seconds(given: argparse.Namespace, precision: str) -> float:
    """Return the median update's seconds of the bare loop, without the first."""
    import torch

    device = "cpu" if given.rehearse else "cuda"
    dtype = torch.bfloat16 if precision == "bf16-true" else torch.float32
    model, _ = random_model("rehearsal" if given.rehearse else "qwen3_0.6b", dtype, device)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, betas=(0.9, 0.95), weight_decay=0.0)
    length = given.prompt + given.answer
    seconds = []
    for _ in range(UPDATES):
        ids = torch.randint(5, 60, (given.rows, length), device=device)
        synchronize(device)
        started = time.perf_counter()
        with autocast(precision, device):
            logits = model(input_ids=ids, use_cache=False).logits[:, given.prompt - 1 : -1]
            targets = ids[:, given.prompt :].flatten()
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def synchronize(device: str) -> None:
    """Wait until the GPU has done what it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def autocast(precision: str, device: str) -> contextlib.AbstractContextManager[Any]:
    """Return what bf16-mixed computes in."""
    import torch

    if precision != "bf16-mixed":
        return contextlib.nullcontext()
    return torch.autocast(device, torch.bfloat16)


def flops_of(given: argparse.Namespace, folder: Path) -> float:
    """Return FLOPs of an update: a forward pass and twice that backward, logits of answers only."""
    from nft_lightning.planning.architecture import architecture

    length = given.prompt + given.answer
    tokens, answers = given.rows * length, given.rows * given.answer
    return 3 * architecture(str(folder)).forward_flops(tokens, length, answers)


def peak_flops(given: argparse.Namespace, precision: str) -> float:
    """Return the GPU's dense peak for the products of a precision."""
    from nft_lightning.planning.assumptions import gpu_table

    gpu = gpu_table()[given.gpu]
    return 1e12 * (gpu.fp32_tflops if precision == "32-true" else gpu.bf16_tflops)


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each precision; one that could not run says why."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_random_model(folder / "model", "rehearsal" if given.rehearse else "qwen3_0.6b")
        problems(folder / "problems.jsonl", given)
        work = flops_of(given, folder / "model")
        for precision in given.precisions:
            run_dir = folder / precision
            run = [*words(given, folder), f"trainer.precision={precision}", WATCH, f"run_dir={run_dir}"]
            said = train(run)
            row: dict[str, Any] = {"precision": precision}
            if said:
                rows.append({**row, "not_run": said})
                continue
            ours, bare = measured(run_dir)["seconds"], bare_seconds(given, precision)
            tokens = given.rows * (given.prompt + given.answer)
            row["tokens_per_second"] = tokens / ours
            row["bare_tokens_per_second"] = tokens / bare
            row["time_to_bare"] = ours / bare
            row["mfu"] = work / ours / peak_flops(given, precision)
            row["bare_mfu"] = work / bare / peak_flops(given, precision)
            rows.append(row)
            sys.stderr.write(f"{precision}: done\n")
    return rows


def shown(row: dict[str, Any]) -> dict[str, str]:
    """Return a row of results.md."""
    if "not_run" in row:
        return {"precision": row["precision"], "tokens per second": f"not run: {row['not_run']}"}
    return {
        "precision": row["precision"],
        "tokens per second": f"{row['tokens_per_second']:,.0f}",
        "of the bare loop": f"{row['bare_tokens_per_second']:,.0f}",
        "time, to the bare loop's": f"{row['time_to_bare']:.2f}",
        "MFU": f"{row['mfu']:.1%}",
        "of the bare loop ": f"{row['bare_mfu']:.1%}",
    }


def main() -> None:
    """Measure and write, or say what is missing."""
    given = given_rows("step.py", __doc__, "precisions", PRECISIONS)
    rows = measure(given)
    about = (
        f"{'A tiny shape' if given.rehearse else 'The shape of Qwen3-0.6B'}, random weights; an update "
        f"is {given.rows} rows of {given.prompt} + {given.answer} tokens; peak of {given.gpu};"
    )
    lines = sorted(map(shown, rows), key=lambda row: "MFU" not in row)
    write(given, {"plan_gpu": given.gpu, "rows": rows}, about, lines)


if __name__ == "__main__":
    main()
