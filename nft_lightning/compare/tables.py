"""The report's tables, as rows of text, and those rows as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nft_lightning.common import text
from nft_lightning.compare.comparison import Comparison, Level
from nft_lightning.stats.intervals import Interval

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
LATEX |= {c: f"\\{c}" for c in "&%$#_{}"}


@dataclass(frozen=True)
class Table:
    """Column names and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def level_table(comparison: Comparison) -> Table:
    """Return one row an algorithm."""
    aim = f"{comparison.target:.2f}"
    columns = ["algorithm", "seeds", "before", f"avg@{comparison.k}", "gained"]
    columns += [
        f"pass@{comparison.k}",
        "mean of the curve",
        "worst seed",
        "response tokens",
        "training tokens",
        "seconds",
    ]
    columns += [f"tokens to {aim}", f"seconds to {aim}"]
    return Table(columns, [level_row(v) for v in comparison.levels])


def level_row(level: Level) -> list[str]:
    """Return the cells of one algorithm."""
    never = f"{level.reached} of {level.seeds} seeds reach it"
    return [
        level.label,
        str(level.seeds),
        f"{level.before.mean:.3f}",
        share(level.final),
        share(level.gained, "+"),
        share(level.passed),
        share(level.curve),
        f"{level.worst_seed:.3f}",
        f"{level.length_mean_tokens:.1f}",
        amount(level.tokens),
        amount(level.seconds),
        amount(level.tokens_to_target) if level.tokens_to_target else never,
        amount(level.seconds_to_target) if level.seconds_to_target else never,
    ]


def difference_table(comparison: Comparison) -> Table:
    """Return one row a pair, paired by problem and seed."""
    columns = ["second less first", "seeds", f"avg@{comparison.k} at the end", "p", "p, corrected"]
    columns += ["mean of the curve", "p", "p, corrected"]
    rows = [
        [
            f"{d.second} - {d.first}",
            str(d.seeds),
            share(d.final, "+"),
            probability(d.final.p_value),
            probability(d.final_p),
            share(d.curve, "+"),
            probability(d.curve.p_value),
            probability(d.curve_p),
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


def conclusions(comparison: Comparison) -> list[str]:
    """Return what may be said of the baseline at 5 %, by the mean of the curve and the corrected
    p-values.
    """
    own = [d for d in comparison.differences if d.first == comparison.baseline]
    told = [d for d in own if d.curve_p < 0.05]
    found = [
        f"{d.second} is {'above' if d.curve.mean > 0 else 'below'} {d.first}: "
        f"{share(d.curve, '+')} on the mean of the curve (corrected p {probability(d.curve_p)})."
        for d in told
    ]
    same = [d.second for d in own if d not in told]
    if same:
        found.append(f"Not significantly different from {comparison.baseline}: {', '.join(same)}.")
    return found


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
    """Return a p-value; the small ones as a bound."""
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


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
