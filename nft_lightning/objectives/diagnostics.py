"""Ratio statistics in the same names for every algorithm, so that curves can be overlaid."""

from __future__ import annotations

from torch import Tensor


def ratio_metrics(log_ratio: Tensor, mask: Tensor, right: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """(sum, count) pairs from log R [B, T], mask [B, T] bool and right [B] bool.

    ``kl_old_new`` is the k3 estimate of KL(old || new), ``R - 1 - log R``, which is never negative.
    """
    ratio = log_ratio.clamp(max=10.0).exp()
    on_right, on_wrong = mask & right[:, None], mask & ~right[:, None]
    return {
        "ratio_right_mean": ((ratio * on_right).sum(), on_right.sum()),
        "ratio_wrong_mean": ((ratio * on_wrong).sum(), on_wrong.sum()),
        "kl_old_new": (((ratio - 1 - log_ratio) * mask).sum(), mask.sum()),
    }
