"""Metrics, numbers and tables as people read them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence


def accuracy_name(metrics: Iterable[str]) -> str:
    """Return the avg@k among the names of an evaluation's metrics; empty where there is none."""
    return next((n for n in metrics if n.startswith("eval/avg_at_") and n[-1].isdigit()), "")


def metric_label(name: str) -> str:
    """``avg@8`` for ``eval/avg_at_8``."""
    return name.removeprefix("eval/").replace("_at_", "@").replace("_", " ")


def with_interval(metrics: Mapping[str, float], name: str) -> str:
    """``0.950 [0.921, 0.969]``, or only the number where its ends are not among the metrics."""
    low, high = (metrics.get(f"{name}_{end}", math.nan) for end in ("low", "high"))
    return interval(metrics[name], low, high)


def interval(mean: float, low: float, high: float, sign: str = "") -> str:
    """``0.510 [0.439, 0.581]``, only the mean where there is no interval; ``sign``: ``+`` or empty."""
    if math.isnan(low):
        return f"{mean:{sign}.3f}"
    return f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def key_of(override: str) -> str:
    """Return what an override of the command line sets, without a ``+`` or ``~`` before it."""
    return override.lstrip("+~").partition("=")[0]


def quoted(text: str) -> str:
    """Return ``text`` as a Hydra value, which may hold commas and equal signs."""
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |\n" for row in lines)


def changes(before: dict[str, str], now: dict[str, str]) -> str:
    """``torch 2.13.0 -> 2.14.0, ...``; the conditions are compared key by key elsewhere."""
    names = sorted(n for n in now if n != "conditions" and before.get(n) != now[n])
    return ", ".join(f"{n} {before.get(n)} -> {now[n]}" for n in names)


def suggestion(given: str, names: Sequence[str], prefix: str = "", cutoff: float = 0.5) -> str:
    """Return a remedy that names the closest of ``names``, or all of them where none is close.

    Args:
        given: what somebody wrote. prefix: comes before the closest name, as in ``trainer.``.
        cutoff: how alike two words must be, see :func:`difflib.get_close_matches`.
    """
    near = difflib.get_close_matches(given, names, n=1, cutoff=cutoff)
    return f"did you mean {prefix}{near[0]}" if near else f"use one of {', '.join(names)}"
