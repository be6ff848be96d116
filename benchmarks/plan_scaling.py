"""The paper's experiments on paper: each where it ran, and NFT from 1 to 128 GPUs.

python benchmarks/plan_scaling.py [--out DIR]

Nothing is run: these are nft-plan's figures under the assumptions of conf/plan.yaml, which are printed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from nft_lightning.app.quiet import quiet_libraries
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.planning.plan import as_data, plan_of

ALGORITHMS = ("nft", "rft", "dapo", "grpo", "dr_grpo", "infonca")
SIZES = ("qwen2.5_math_7b", "qwen2.5_32b")
# What some of the paper's runs need beside experiment= and algorithm=.
OTHERS = {"grpo": ("trainer.max_epochs=580",), "dr_grpo": ("trainer.max_epochs=580",)}
OTHERS_32B = {"infonca": ("rollout.completions_per_problem=4",)}
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


def words(size: str, algorithm: str) -> tuple[str, ...]:
    """One of the paper's runs, as it is typed."""
    others = OTHERS.get(algorithm, ()) + (OTHERS_32B.get(algorithm, ()) if size.endswith("32b") else ())
    return (f"experiment={size}", f"algorithm={algorithm}", *others)


def at(size: str, gpus: int) -> dict[str, Any]:
    """NFT's run on so many GPUs; one alone has no four for a copy of the engine."""
    alone = ("rollout.engine.tensor_parallel_size=1",) if gpus == 1 else ()
    return planned(*words(size, "nft"), f"plan.gpus={gpus}", *alone)


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
    runs = [words(size, algorithm) for size in SIZES for algorithm in ALGORITHMS]
    presets = {" ".join(run): planned(*run) for run in runs}
    scaling = {size: {str(n): at(size, n) for n in GPUS} for size in SIZES}
    lines = ["# The paper's runs where they ran", "", *table(presets, "run")]
    for size, plans in scaling.items():
        lines += ["", f"# experiment={size} algorithm=nft on 1 to 128 H100", "", *table(plans)]
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
