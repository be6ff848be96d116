"""The paper's experiments on paper: each where it ran, and NFT from 1 to 128 GPUs.

python benchmarks/plan_scaling.py [--out DIR]

Nothing is run: these are nft-plan's figures under the assumptions of conf/plan.yaml, which are printed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from nft_lightning.app.run import quiet_libraries
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.planning.plan import as_data, plan_of

ALGORITHMS = ("nft", "rft", "dapo", "grpo", "dr_grpo", "infonca")
MODELS = ("qwen2.5_math_7b", "qwen2.5_32b")
GPUS = (1, 8, 16, 32, 64, 128)
COLUMNS = (
    "GPUs",
    "peak GiB",
    "in",
    "fits",
    "rollout s",
    "old s",
    "training s",
    "sync s",
    "iteration s",
    "iterations",
    "hours",
    "GPU-hours",
    "completions an hour and GPU",
    "would fit with",
)


def planned(*overrides: str) -> dict[str, Any]:
    return as_data(plan_of(compose_or_explain("plan", list(overrides))))


def at(preset: str, gpus: int) -> dict[str, Any]:
    """The preset on so many GPUs; one alone has no four for a copy of the engine."""
    alone = ("rollout.engine.tensor_parallel_size=1",) if gpus == 1 else ()
    return planned(f"experiment={preset}", f"plan.gpus={gpus}", *alone)


def row(found: dict[str, Any]) -> tuple[str, ...]:
    one, seconds = found["iteration"], found["iteration"]["seconds"]
    pace = one["completions"] / one["total_seconds"] * 3600 / found["gpus"]
    times = (
        f"{seconds['prefill'] + seconds['decode']:,.0f}",
        f"{seconds['old log-probabilities']:,.0f}",
        f"{seconds['training'] + seconds['optimizer']:,.0f}",
        f"{seconds['sync']:,.1f}",
        f"{one['total_seconds']:,.0f}",
        str(found["iterations"]),
        f"{found['hours']:,.0f}",
        f"{found['gpu_hours']:,.0f}",
        f"{pace:,.0f}",
    )
    return (
        str(found["gpus"]),
        f"{found['peak_gib']:.1f}",
        found["peak_phase"],
        "yes" if found["fits"] else "no",
        *(times if found["fits"] else [""] * len(times)),
        f"`{found['remedy']}`" if found["remedy"] else "",
    )


def table(plans: dict[str, dict[str, Any]], label: str | None = None) -> list[str]:
    columns = [label, *COLUMNS] if label else COLUMNS
    rows = [(name, *row(found)) if label else row(found) for name, found in plans.items()]
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/plan"))
    out = parser.parse_args().out
    quiet_libraries()
    presets = {p: planned(f"experiment={p}") for m in MODELS for p in (f"{a}_{m}" for a in ALGORITHMS)}
    scaling = {model: {str(n): at(f"nft_{model}", n) for n in GPUS} for model in MODELS}
    lines = ["# The presets where they ran", "", *table(presets, "preset")]
    for model, plans in scaling.items():
        lines += ["", f"# nft_{model} on 1 to 128 H100", "", *table(plans)]
    first = next(iter(presets.values()))
    assumed = {k: v for k, v in first["assumptions"].items() if k not in ("format", "gpus")}
    assumed["mean_response_tokens"] = "three tenths of max_new_tokens: 1,076 (7B), 4,301 (32B)"
    facts = {f"GPU: {k}": v for k, v in first["gpu_facts"].items()}
    lines += ["", "# Assumptions", "", "| | |", "|---|---|"]
    lines += [f"| {k} | {v} |" for k, v in {**assumed, **facts}.items()]
    out.mkdir(parents=True, exist_ok=True)
    (out / "scaling.md").write_text("\n".join(lines) + "\n")
    (out / "scaling.json").write_text(
        json.dumps({"presets": presets, "scaling": scaling}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
