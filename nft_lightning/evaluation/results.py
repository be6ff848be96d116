"""From answers to numbers: avg@k, pass@n and maj@n with intervals, by set and over all sets."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from nft_lightning.common.text import interval, markdown
from nft_lightning.records.rollouts import write
from nft_lightning.stats.estimates import Estimate, estimate, pass_at_k
from nft_lightning.stats.majority import majority_at_k
from nft_lightning.types import OUTCOMES, Verdict


@dataclass(frozen=True)
class ProblemResult:
    """One problem: right answers of k, the vote's result, and the mean length."""

    set_name: str
    problem_id: str
    right: int
    samples: int
    majority: float
    length_mean_tokens: float


@dataclass(frozen=True)
class SetResult:
    """One set; ``passed`` and ``majority`` are by the number n of answers: powers of two, and k."""

    name: str
    problems: int
    k: int
    avg: Estimate
    passed: dict[int, Estimate]
    majority: dict[int, Estimate]
    verdicts: dict[str, float]
    length_mean_tokens: float
    truncated_fraction: float
    in_mean: bool = True


def evaluate_set(
    name: str, table: pa.Table, in_mean: bool = True
) -> tuple[SetResult, list[ProblemResult]]:
    """Return the numbers of a set from its rows."""
    columns = ("problem_id", "verdict", "extracted", "length_tokens", "truncated")
    rows = list(zip(*(table[c].to_pylist() for c in columns), strict=True))
    by_problem: dict[str, list[Verdict]] = {}
    lengths: Counter[str] = Counter()
    for problem, outcome, extracted, length, _ in rows:
        by_problem.setdefault(problem, []).append(Verdict(outcome, extracted))
        lengths[problem] += length
    k = min(len(v) for v in by_problem.values())
    counts = sorted({min(2**i, k) for i in range(k.bit_length() + 1)})
    right = torch.tensor([sum(v.correct for v in verdicts) for verdicts in by_problem.values()])
    samples = torch.tensor([len(v) for v in by_problem.values()])
    votes = {n: [majority_at_k(v, n) for v in by_problem.values()] for n in counts}
    outcomes = Counter(row[1] for row in rows)
    result = SetResult(
        name,
        len(by_problem),
        k,
        estimate(right.double() / samples),
        {n: estimate(pass_at_k(right, samples, n)) for n in counts},
        {n: estimate(torch.tensor(votes[n], dtype=torch.float64)) for n in counts},
        {o: outcomes[o] / len(rows) for o in OUTCOMES},
        sum(lengths.values()) / len(rows),
        sum(row[4] for row in rows) / len(rows),
        in_mean,
    )
    problems = [
        ProblemResult(
            name,
            problem,
            int(right[i]),
            int(samples[i]),
            votes[k][i],
            lengths[problem] / int(samples[i]),
        )
        for i, problem in enumerate(by_problem)
    ]
    return result, problems


def mean_over_sets(results: Sequence[SetResult]) -> Estimate:
    """Return the unweighted mean of avg@k over the sets that count in it; nan where none does.

    Sets are independent, so the half-widths of their intervals add in squares, each side by itself
    (Zou and Donner, Statistics in Medicine 27, 2008).
    """
    results = [r for r in results if r.in_mean]
    count = len(results)
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = sum(r.avg.mean for r in results) / count
    low = math.sqrt(sum((r.avg.mean - r.avg.low) ** 2 for r in results)) / count
    high = math.sqrt(sum((r.avg.high - r.avg.mean) ** 2 for r in results)) / count
    return Estimate(mean, mean - low, mean + high)


def save(
    folder: Path,
    results: Sequence[SetResult],
    problems: Sequence[ProblemResult],
    protocol: dict[str, Any],
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write ``results.json``, ``results.md`` and ``problems.parquet``.

    ``left_out`` holds by set the ids of the problems that could not be asked.
    """
    left_out = {name: list(ids) for name, ids in (left_out or {}).items() if ids}
    data = {
        "protocol": protocol,
        "mean": mean_over_sets(results)._asdict(),
        "sets": [as_data(r) for r in results],
        "left_out": left_out,
    }
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    page = markdown(COLUMNS, table_rows(results))
    for name, ids in left_out.items():
        page += f"\nLeft out of {name}, since their prompts leave no room for an answer: "
        page += f"{', '.join(ids)}\n"
    (folder / "results.md").write_text(page)
    write(pa.Table.from_pylist([asdict(p) for p in problems]), folder / "problems.parquet")


def as_data(result: SetResult) -> dict[str, Any]:
    """Return a set's numbers as plain data; estimates as mean, low, high."""

    def plain(value: Any) -> Any:
        if isinstance(value, Estimate):
            return value._asdict()
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return value

    return {name: plain(getattr(result, name)) for name in SetResult.__dataclass_fields__}


COLUMNS = ("set", "problems", "k", "avg@k", "pass@k", "maj@k", "no answer", "truncated", "tokens")


def table_rows(results: Sequence[SetResult]) -> list[list[str]]:
    """Return the cells of the table under ``COLUMNS``, the mean last where there are several sets."""
    rows = [
        [
            r.name,
            str(r.problems),
            str(r.k),
            interval(*r.avg),
            interval(*r.passed[r.k]),
            interval(*r.majority[r.k]),
            f"{r.verdicts['unparsable']:.1%}",
            f"{r.truncated_fraction:.1%}",
            f"{r.length_mean_tokens:.0f}",
        ]
        for r in results
    ]
    if len(results) > 1:
        left_out = [r.name for r in results if not r.in_mean]
        named = f"mean without {', '.join(left_out)}" if left_out else "mean"
        rows.append([named, "", "", interval(*mean_over_sets(results)), *[""] * (len(COLUMNS) - 4)])
    return rows
