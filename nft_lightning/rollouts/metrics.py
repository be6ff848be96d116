"""What a rollout looked like before anything was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nft_lightning.types import OUTCOMES, Group


def usable(group: Group) -> bool:
    """No reward of the group is undefined."""
    return all(r == r for r in group.rewards)


def varied(group: Group) -> bool:
    """Return the rewards differ, so that there is something to learn."""
    return min(group.rewards) < max(group.rewards)


def rollout_metrics(seen: Sequence[Group], kept: int, wanted: int) -> dict[str, float]:
    """Return what a rollout looked like before anything was left out."""
    completions = [c for g in seen for c in g.completions]
    outcomes = Counter(v.outcome for g in seen for v in g.verdicts)
    total = len(completions)
    tokens = sum(len(c.token_ids) for c in completions)
    valid = [g for g in seen if usable(g)]
    share = {
        "all_right": sum(g.accuracy == 1 for g in valid),
        "all_wrong": sum(g.accuracy == 0 for g in valid),
    }
    metrics = {
        "rollout/accuracy": sum(g.accuracy for g in valid) / max(1, len(valid)),
        "rollout/all_right_group_fraction": share["all_right"] / max(1, len(valid)),
        "rollout/all_wrong_group_fraction": share["all_wrong"] / max(1, len(valid)),
        "rollout/kept_group_fraction": kept / wanted,
        "rollout/response_length_mean_tokens": tokens / total,
        "rollout/truncated_fraction": sum(c.truncated for c in completions) / total,
        "rollout/completions": float(total),
        "rollout/tokens": float(tokens),
    }
    metrics.update({f"verdict/{o}_fraction": outcomes[o] / total for o in OUTCOMES})
    parts = [v.parts for g in seen for v in g.verdicts if v.parts]
    for name in parts[0] if parts else ():
        known = [p[name] for p in parts if p[name] == p[name]]
        metrics[f"verdict/part_{name}_mean"] = sum(known) / max(1, len(known))
    return metrics
