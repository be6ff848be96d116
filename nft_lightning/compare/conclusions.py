"""What may be said of a comparison, in sentences that tell what they compare."""

from __future__ import annotations

from nft_lightning.compare.comparison import SIGNIFICANT, Comparison, Difference
from nft_lightning.compare.runs import Run
from nft_lightning.compare.tables import probability, share

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def conclusions(comparison: Comparison) -> list[str]:
    """Return what may be said of the baseline at 5 %, by the mean of the curve and the corrected
    p-values.
    """
    found = []
    unclear: dict[str, list[str]] = {}
    for d in comparison.against_baseline:
        if d.curve_p < SIGNIFICANT:
            side = "above" if d.curve.mean > 0 else "below"
            found.append(
                f"{d.second} is {side} {d.first}: {share(d.curve, '+')} on the mean of the curve "
                f"(corrected p {probability(d.curve_p)}). Compared: {basis(comparison, d)}."
            )
        else:
            unclear.setdefault(basis(comparison, d), []).append(d.second)
    for compared, names in unclear.items():
        found.append(
            f"Not significantly different from {comparison.baseline}: {', '.join(names)}. "
            f"Compared: {compared}."
        )
    return found


def basis(comparison: Comparison, difference: Difference) -> str:
    """Return what a difference compares: seeds, problems, and how much both were trained."""
    pair = (comparison.runs[label] for label in (difference.first, difference.second))
    by_seed = [{r.seed: r for r in group} for group in pair]
    shared = by_seed[0].keys() & by_seed[1].keys()
    runs = [found[seed] for found in by_seed for seed in shared]
    return (
        f"{counted(difference.seeds, 'seed')} each, accuracy on the same "
        f"{len(runs[0].final.problem_ids)} held-out problems, {evaluated(runs)}"
    )


def evaluated(runs: list[Run]) -> str:
    """Return over which evaluations the mean of the curve is taken."""
    rollouts = sorted({int(r.final.axes["epochs"]) for r in runs})
    counts = {len(r.evaluations[1:]) for r in runs}
    if len(rollouts) > 1 or len(counts) > 1:
        return f"after different numbers of rollouts ({rollouts[0]} to {rollouts[-1]})"
    count = counts.pop()
    if count == 0:
        return "before training"
    return f"mean of {counted(count, 'evaluation')} over the same {counted(rollouts[0], 'rollout')}"


def counted(count: int, noun: str) -> str:
    """``three seeds``."""
    word = NUMBERS[count] if count < len(NUMBERS) else str(count)
    return f"{word} {noun}" if count == 1 else f"{word} {noun}s"
