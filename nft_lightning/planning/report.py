"""A plan as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nft_lightning.planning.memory import PARTS


def report(data: dict[str, Any]) -> Group:
    """Return what :func:`nft_lightning.planning.plan.as_data` holds, on one screen."""
    trained = data["trainable_parameters"]
    size = f"{data['parameters']:,} parameters" + (
        f", {trained:,} train" if trained != data["parameters"] else ""
    )
    head = f"{data['model']}: {size}; {data['gpus']} x {data['gpu']}, {data['strategy']}"
    return Group(Text(head), memory_table(data), verdict(data), work_table(data), totals(data))


def memory_table(data: dict[str, Any]) -> Table:
    """GiB of each GPU by part and phase; parts that are nowhere are left out."""
    phases = data["memory_gib"]
    table = Table("GiB on each GPU", *phases, box=None, padding=(0, 1), title_justify="left")
    for part in (*PARTS, "total"):
        sizes = [phases[phase][part] for phase in phases]
        if any(sizes):
            cells = [f"{size:.2f}" if size else "" for size in sizes]
            table.add_row(part, *cells, style="bold" if part == "total" else None)
    return table


def verdict(data: dict[str, Any]) -> Text:
    """Return whether it fits, and what would make it."""
    peak = f"{data['peak_gib']:.1f} GiB in {data['peak_phase']}, {data['usable_gib']:.1f} usable"
    if data["fits"]:
        return Text(f"fits: {peak}", style="green")
    reason = f"; {data['problem']}" if data["problem"] else ""
    return Text(f"does not fit: {peak}{reason}\nwould fit with: {data['remedy']}", style="red")


def work_table(data: dict[str, Any]) -> Table:
    """Return FLOPs and seconds of an iteration by phase."""
    found = data["iteration"]
    table = Table("an iteration", "PFLOPs", "seconds", box=None, padding=(0, 1))
    for phase, seconds in found["seconds"].items():
        flops = found["flops"].get(phase)
        table.add_row(phase, f"{flops / 1e15:,.2f}" if flops else "", f"{seconds:,.1f}")
    total = sum(found["flops"].values()) / 1e15
    table.add_row("total", f"{total:,.2f}", f"{found['total_seconds']:,.1f}", style="bold")
    return table


def totals(data: dict[str, Any]) -> Text:
    """Return tokens of an iteration, hours of the run, and what was taken for granted."""
    found, assumed = data["iteration"], data["assumptions"]
    percent = ", ".join(
        f"{name} {assumed[key]:.0%}"
        for name, key in (
            ("training", "training_utilization"),
            ("prefill", "prefill_utilization"),
            ("decode bandwidth", "decode_bandwidth_utilization"),
            ("links", "link_utilization"),
        )
    )
    lines = (
        f"{found['completions']:,} completions, {found['generated_tokens']:,} tokens generated, "
        f"{found['trained_tokens']:,} trained",
        f"{found['micro_batches_per_update']} micro-batches per update, {found['completions_at_once']} "
        "completions at once in a copy of the engine",
        f"{data['iterations']} iterations: {data['hours']:,.1f} hours, {data['gpu_hours']:,.0f} "
        "GPU-hours, evaluation and verification left out",
        f"assumed: {percent} of peak; answers of {assumed['mean_response_tokens']:.0f} tokens, prompts "
        f"of {assumed['mean_prompt_tokens']}; {assumed['uniform_fraction']:.0%} of groups uniform; "
        f"{assumed['overhead_gib']} GiB per GPU kept free (plan.*)",
    )
    return Text("\n".join(lines))
