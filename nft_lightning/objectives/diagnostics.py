"""Ratio statistics in the same names for every algorithm, so that curves can be overlaid.

Everything is a sum: pairs (sum, count), histograms and moments add up exactly over micro-batches,
updates and ranks, and become numbers once, at the end, in :func:`summarise`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nft_lightning.common.precise import exact

# Histogram of log R: bins of width 0.01 centred at -2.00, -1.99 ... 2.00; the ends hold the rest.
BIN_WIDTH, HALF_BINS = 0.01, 200
BINS = 2 * HALF_BINS + 1
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def ratio_metrics(log_ratio: Tensor, mask: Tensor, right: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """(sum, count) pairs from log R [B, T], mask [B, T] bool and right [B] bool.

    ``kl_old_new`` is the k3 estimate of KL(old || new), ``R - 1 - log R``, which is never negative.
    The shares of clipped tokens are 0 unless the algorithm says otherwise.
    """
    ratio = log_ratio.clamp(max=10.0).exp()
    on_right, on_wrong = mask & right[:, None], mask & ~right[:, None]
    zero, tokens, wrong = ratio.new_zeros(()), mask.sum(), on_wrong.sum()
    return {
        "ratio_right_mean": ((ratio * on_right).sum(), on_right.sum()),
        "ratio_wrong_mean": ((ratio * on_wrong).sum(), wrong),
        "kl_old_new": (((ratio - 1 - log_ratio) * mask).sum(), tokens),
        "negative_clamped_fraction": (zero, wrong),
        "clipped_high_fraction": (zero, tokens),
        "clipped_low_fraction": (zero, tokens),
    }


def ratio_sums(log_ratio: Tensor, mask: Tensor, right: Tensor) -> dict[str, Tensor]:
    """``ratio_histogram`` [2, BINS], wrong and right; ``ratio_moments`` [3]: n, sum R, sum R^2.

    Of finite log R only, so that a policy that gives NaN reaches the loss, where it is refused.
    """
    mask = mask & torch.isfinite(log_ratio)
    inside = torch.where(mask, log_ratio, 0.0)
    bins = (inside.clamp(-2.0, 2.0) / BIN_WIDTH).round().long() + HALF_BINS
    bins = bins + BINS * right[:, None]
    # No bincount: it asks the device for the largest bin.
    counts = torch.zeros(2 * BINS, dtype=torch.long, device=mask.device)
    counts = counts.index_add(0, bins.flatten(), mask.flatten().long())
    ratio = inside.clamp(max=10.0).exp() * mask
    moments = torch.stack([mask.sum().to(ratio), ratio.sum(), (ratio**2).sum()])
    return {"ratio_histogram": counts.view(2, BINS), "ratio_moments": moments}


def gradient_pair(gradient: Tensor, mask: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Of the gradient on log-probabilities [B, T]: (sum of |g| on wrong tokens, on all tokens)."""
    size = gradient.detach().abs() * mask
    return (size * ~right[:, None]).sum(), size.sum()


def summarise(name: str, sums: Tensor) -> dict[str, float]:
    """Return what added-up sums mean, by metric name."""
    if name == "ratio_histogram":
        found: dict[str, float] = {}
        for side, counts in (("wrong", sums[0]), ("right", sums[1])):
            found |= {f"ratio_{side}_{q}": quantile(counts, p) for q, p in QUANTILES.items()}
        return found
    if name == "ratio_moments":
        n, total, squares = sums.tolist()
        return {"effective_sample_fraction": total**2 / (n * squares) if n else 0.0}
    if name == "value_moments":
        return {"explained_variance": explained_variance(sums)}
    raise KeyError(name)


def quantile(counts: Tensor, p: float) -> float:
    """R at the centre of the bin that holds the p-quantile; nan where nothing was counted."""
    cumulative = exact(counts).cumsum(0)
    total = float(cumulative[-1])
    if total == 0:
        return float("nan")
    index = int((cumulative < p * total - 1e-9).sum())
    return float(torch.tensor((index - HALF_BINS) * BIN_WIDTH, dtype=torch.float64).exp())


def explained_variance(sums: Tensor) -> float:
    """1 - Var(error) / Var(return), where error is return - value.

    ``sums`` [5]: count, and the sums of return, return^2, error and error^2.
    """
    n, total, squares, errors, error_squares = exact(sums).tolist()
    variance = squares / n - (total / n) ** 2 if n else 0.0
    if variance <= 1e-12:
        return 0.0
    return 1 - (error_squares / n - (errors / n) ** 2) / variance
