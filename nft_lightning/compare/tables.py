"""The report's tables, as rows of text, and those rows as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nft_lightning.common import text
from nft_lightning.compare.comparison import SIGNIFICANT, Comparison, Level
from nft_lightning.stats.intervals import Interval

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
LATEX |= {c: f"\\{c}" for c in "&%$#_{}"}


@dataclass(frozen=True)
class Table:
    """Column names and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def level_table(comparison: Comparison) -> Table:
    """Return what each algorithm reaches, one row per algorithm."""
    k = comparison.k
    rows = [
        [v.label, f"{v.before.mean:.3f}", share(v.final), share(v.gained, "+"), share(v.passed)]
        for v in comparison.levels
    ]
    return Table(["algorithm", "before", f"avg@{k}", "gained", f"pass@{k}"], rows)


def run_table(comparison: Comparison) -> Table:
    """Return figures whose units are runs: the curve's mean, the interquartile mean, the worst seed,
    and how often a run ends above one of the baseline.
    """
    better = {d.second: share(d.improvement) for d in comparison.against_baseline}
    rows = [
        [
            v.label,
            str(v.seeds),
            share(v.curve),
            share(v.middle),
            f"{v.worst_seed:.3f}",
            better.get(v.label, "-"),
        ]
        for v in comparison.levels
    ]
    last = f"P(above {comparison.baseline})"
    return Table(["algorithm", "seeds", "mean of the curve", "IQM at the end", "worst", last], rows)


def cost_table(comparison: Comparison) -> Table:
    """Return what each algorithm costs, one row per algorithm."""
    aim = f"{comparison.target:.2f}"
    columns = ["algorithm", "response tokens", "training tokens", "seconds"]
    return Table(
        [*columns, f"tokens to {aim}", f"seconds to {aim}"],
        [cost_row(v) for v in comparison.levels],
    )


def cost_row(level: Level) -> list[str]:
    """Return the cells of one algorithm."""
    never = f"{level.reached} of {level.seeds} seeds"
    return [
        level.label,
        f"{level.length_mean_tokens:.1f}",
        amount(level.tokens),
        amount(level.seconds),
        amount(level.tokens_to_target) if level.tokens_to_target else never,
        amount(level.seconds_to_target) if level.seconds_to_target else never,
    ]


def difference_table(comparison: Comparison) -> Table:
    """Return one row a pair, paired by problem and seed; p-values are the corrected ones."""
    columns = ["difference", "seeds", f"avg@{comparison.k}", "p"]
    columns += ["mean of the curve", "p"]
    rows = [
        [
            f"{d.second} - {d.first}",
            str(d.seeds),
            share(d.final, "+"),
            starred(d.final_p),
            share(d.curve, "+"),
            starred(d.curve_p),
        ]
        for d in comparison.differences
    ]
    return Table(columns, rows)


def config_table(comparison: Comparison) -> Table:
    """Return the settings in which the algorithms' configs differ."""
    rows = [
        [name.removeprefix("algorithm."), *("" if v is None else str(v) for v in values)]
        for name, values in comparison.config_differences.items()
    ]
    return Table(["setting", *comparison.runs], rows)


def share(interval: Interval, sign: str = "") -> str:
    """``0.510 [0.439, 0.581]``."""
    return text.interval(interval.mean, interval.low, interval.high, sign)


def amount(interval: Interval) -> str:
    """``330 k ± 12 k``: counts and seconds."""
    half = interval.high - interval.mean
    return short(interval.mean) if math.isnan(half) else f"{short(interval.mean)} ± {short(half)}"


def short(value: float) -> str:
    """Three or four figures, with k and M."""
    for size, unit in ((1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / size if unit == ' M' else value / 1e3:.3g}{unit}"
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def probability(value: float) -> str:
    """Return a p-value; the small ones as a bound, and none rounded up to the level of significance."""
    if math.isnan(value):
        return "-"
    if value < 0.001:
        return "< 0.001"
    rounded_up = value < SIGNIFICANT <= round(value, 3)
    return f"{value:.4f}" if rounded_up else f"{value:.3f}"


def starred(value: float) -> str:
    """Return a corrected p-value, with a star where it is significant."""
    return f"{probability(value)} *" if value < SIGNIFICANT else probability(value)


def markdown(table: Table) -> str:
    """Return a Markdown table."""
    return text.markdown(table.columns, table.rows)


def latex(table: Table) -> str:
    """Return a LaTeX tabular with booktabs' rules."""

    def line(row: Sequence[str]) -> str:
        return " & ".join(re.sub(r"[\\~^±&%$#_{}]", lambda m: LATEX[m[0]], c) for c in row) + r" \\"

    columns = "l" + "r" * (len(table.columns) - 1)
    body = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", line(table.columns), r"\midrule"]
    return "\n".join([*body, *map(line, table.rows), r"\bottomrule", r"\end{tabular}", ""])


def comma_separated(table: Table) -> str:
    """CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([table.columns, *table.rows])
    return buffer.getvalue()
