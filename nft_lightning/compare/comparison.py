"""What a set of runs says: levels, costs and paired differences, as tables of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from nft_lightning.compare.measures import final, gained, height, passed, reach, score, stacked
from nft_lightning.compare.runs import Run, check_conditions, differing, find_runs, labelled
from nft_lightning.errors import UserError
from nft_lightning.stats.intervals import Interval, accuracy, crossed, holm, over_seeds
from nft_lightning.stats.robust import bootstrapped, improvement, interquartile_mean

SIGNIFICANT = 0.05  # a corrected p-value below it


@dataclass(frozen=True)
class Difference:
    """``second`` minus ``first`` on the same problems and seeds; p-values corrected over all pairs.

    ``improvement`` is how often a run of ``second`` ends above one of ``first``.
    """

    first: str
    second: str
    seeds: int
    final: Interval
    curve: Interval
    improvement: Interval
    final_p: float = math.nan
    curve_p: float = math.nan


@dataclass(frozen=True)
class Level:
    """One algorithm's line: accuracies over seeds and problems, costs over seeds.

    ``gained`` is ``final`` minus ``before``, problem by problem and seed by seed. ``middle`` is the
    interquartile mean of the runs' final accuracies, with an interval over seeds.
    """

    label: str
    seeds: int
    before: Interval
    final: Interval
    gained: Interval
    passed: Interval
    curve: Interval
    middle: Interval
    worst_seed: float
    length_mean_tokens: float
    tokens: Interval
    seconds: Interval
    reached: int
    tokens_to_target: Interval | None
    seconds_to_target: Interval | None


@dataclass(frozen=True)
class Comparison:
    """All of it. ``k`` samples per problem; ``baseline`` is the label that curves are set against."""

    runs: dict[str, list[Run]]
    baseline: str
    target: float
    k: int
    levels: list[Level]
    differences: list[Difference]
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    may_differ: tuple[str, ...] = ()

    @property
    def against_baseline(self) -> list[Difference]:
        """Return the differences of the others to the baseline."""
        return [d for d in self.differences if d.first == self.baseline]

    @property
    def config_differences(self) -> dict[str, list[Any]]:
        """Keys of the configs, run folders and logging apart, that differ between the labels."""
        firsts = [group[0].config for group in self.runs.values()]
        found = differing(firsts)
        return {k: v for k, v in found.items() if k.startswith(("algorithm.", *self.may_differ))}

    @property
    def version_differences(self) -> dict[str, list[Any]]:
        """Packages whose versions are not the same in all runs."""
        versions = [r.versions for group in self.runs.values() for r in group]
        return {k: v for k, v in differing(versions).items() if k != "conditions"}

    @property
    def warnings(self) -> list[str]:
        """Return what a reader must know before believing any of it."""
        found = [f"{folder} {reason} and is left out." for folder, reason in self.left_out]
        found += [
            f"The versions of {name} differ between runs: {', '.join(sorted({str(v) for v in values}))}."
            for name, values in self.version_differences.items()
        ]
        seeds = {label: {r.seed for r in group} for label, group in self.runs.items()}
        if len({frozenset(s) for s in seeds.values()}) > 1:
            listed = "; ".join(f"{label}: {sorted(s)}" for label, s in seeds.items())
            found.append(f"Seeds differ ({listed}); pairs are compared on those that both have.")
        if min(len(s) for s in seeds.values()) == 1:
            found.append("With one seed an interval is about other problems, not about other seeds.")
        found += [change for group in self.runs.values() for run in group for change in changes_of(run)]
        if self.may_differ:
            found.append(f"Conditions were allowed to differ in {', '.join(self.may_differ)}.")
        return found


def changes_of(run: Run) -> list[str]:
    """Return a sentence for each key that a resume of the run was allowed to change."""
    return [
        f"{run.folder} changed after {at['epochs']} epochs: {key}={now!r} in place of {before!r}."
        for at in run.changes
        for key, (before, now) in at["changed"].items()
    ]


def compare(
    paths: Sequence[Path],
    baseline: str | None = None,
    target: float | None = None,
    may_differ: Sequence[str] = (),
) -> Comparison:
    """Read, check and compare the runs in ``paths``.

    ``target`` is the accuracy whose cost is given; by default the middle between the start and the
    lowest final accuracy.

    Raises:
        UserError: no runs, unequal conditions, a seed twice, an unknown baseline.
    """
    found, left_out = find_runs(paths)
    check_conditions(found, may_differ)
    runs = labelled(found, may_differ)
    baseline = baseline or next(iter(runs))
    if baseline not in runs:
        raise UserError("--baseline", baseline, "is not among the runs", f"use one of {', '.join(runs)}")
    runs = {baseline: runs[baseline], **runs}
    if target is not None and not 0 < target < 1:
        raise UserError("--target", target, "is no accuracy", "use a number between 0 and 1")
    k = int(min(r.final.samples.min() for r in found))
    finals = [float(stacked(group, final).mean()) for group in runs.values()]
    start = float(np.mean([r.evaluations[0].accuracy.mean() for r in found]))
    aim = target if target is not None else (start + min(finals)) / 2
    return Comparison(
        runs,
        baseline,
        aim,
        k,
        [level(label, group, aim, k) for label, group in runs.items()],
        differences(runs),
        left_out,
        tuple(may_differ),
    )


def level(label: str, group: Sequence[Run], target: float, k: int) -> Level:
    """Return one algorithm's line."""
    reached = {axis: [reach(r, axis, target) for r in group] for axis in ("tokens", "seconds")}
    count = sum(math.isfinite(t) for t in reached["tokens"])
    # A mean over only the seeds that arrived would praise the algorithm whose slow seeds never did.
    to_target = {a: over_seeds(c) if count == len(group) else None for a, c in reached.items()}
    return Level(
        label,
        len(group),
        accuracy(stacked(group, lambda r: r.evaluations[0].accuracy)),
        accuracy(stacked(group, final)),
        crossed(stacked(group, gained)),
        accuracy(stacked(group, lambda r: passed(r.final, k))),
        accuracy(stacked(group, height)),
        bootstrapped(interquartile_mean, [score(r) for r in group]),
        float(stacked(group, final).mean(1).min()),
        float(np.mean([r.final.length_mean_tokens for r in group])),
        over_seeds([r.final.axes["tokens"] for r in group]),
        over_seeds([r.final.axes["seconds"] for r in group]),
        count,
        to_target["tokens"],
        to_target["seconds"],
    )


def differences(runs: dict[str, list[Run]]) -> list[Difference]:
    """Return every pair, paired by seed and problem; Holm over all pairs of a measure."""
    made = []
    for first, second in combinations(runs, 2):
        one, two = ({r.seed: r for r in runs[label]} for label in (first, second))
        seeds = sorted(one.keys() & two.keys())
        if not seeds:
            continue
        at_end, of_curve = (
            crossed(np.stack([of(two[s]) - of(one[s]) for s in seeds])) for of in (final, height)
        )
        better = bootstrapped(
            improvement, [score(two[s]) for s in seeds], [score(one[s]) for s in seeds]
        )
        made.append(Difference(first, second, len(seeds), at_end, of_curve, better))
    final_ps, curve_ps = (holm([getattr(d, m).p_value for d in made]) for m in ("final", "curve"))
    return [replace(d, final_p=f, curve_p=c) for d, f, c in zip(made, final_ps, curve_ps, strict=True)]
