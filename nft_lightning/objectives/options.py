"""Options that any algorithm may carry: reference KL, entropy, importance sampling, long answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nft_lightning.errors import UserError
from nft_lightning.objectives.tensors import needed, sequence_sum, tokens_of, widen

if TYPE_CHECKING:
    from nft_lightning.objectives.base import Objective

KL_ESTIMATORS = ("k1", "k2", "k3", "k3_unbiased")
CORRECTIONS = ("none", "truncate", "mask", "reject")
LEVELS = ("token", "sequence", "geometric")
RATIO_LEVELS = ("token", "sequence")

BINARY = "changes the right/wrong signal that the loss is derived from"
NO_CLIP = "has no clipped ratio to bound"
OWN_WEIGHT = "already weighs its prompts through the advantage"


def check_options(objective: Objective) -> None:
    """Raise UserError for an option whose value is wrong, or that has no effect as the rest is set."""
    if objective.dual_clip and not (math.isfinite(objective.dual_clip) and objective.dual_clip > 1):
        raise refusal(objective, "dual_clip", "is not above 1", "use 0 (off) or 3")
    truncated = objective.importance_correction == "truncate"
    if truncated and objective.importance_correction_level == "geometric":
        problem = "masks sequences, and importance_correction=truncate masks none"
        raise refusal(objective, "importance_correction_level", problem, "use token or sequence")
    check_effect(objective)


def check_effect(objective: Objective) -> None:
    """Raise UserError for an option that is set and changes nothing."""
    off = objective.importance_correction == "none"
    idle = {
        "kl_estimator": ("k3", not objective.kl_coefficient, "algorithm.kl_coefficient is 0"),
        "importance_correction_level": ("token", off, "algorithm.importance_correction is none"),
        "importance_ratio_high": (2.0, off, "algorithm.importance_correction is none"),
        "importance_ratio_low": (
            0.5,
            objective.importance_correction not in ("mask", "reject"),
            "algorithm.importance_correction is not mask or reject",
        ),
    }
    for name, (default, without_effect, reason) in idle.items():
        if without_effect and getattr(objective, name) != default:
            raise refusal(objective, name, f"has no effect, because {reason}", f"leave it at {default}")


def refusal(objective: Objective, name: str, problem: str, remedy: str) -> UserError:
    """Return the error for one of the objective's fields."""
    return UserError(f"algorithm.{name}", getattr(objective, name), problem, remedy)


def with_options(
    objective: Objective,
    loss: Tensor,
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    mask: Tensor,
    signal: Mapping[str, Tensor],
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Return the token loss [B, T] with what the options add, and their (sum, count) metrics."""
    metrics: dict[str, tuple[Tensor, Tensor]] = {}
    if objective.off_policy_mask:
        left_out = off_policy(objective, logprobs, old_logprobs, mask, signal)
        loss = loss * ~left_out
        metrics["off_policy_masked_fraction"] = ((left_out & mask).to(loss).sum(), mask.sum())
    if objective.importance_correction != "none":
        engine = needed(signal, "engine_logprobs", "importance_correction")
        old = logprobs if old_logprobs is None else old_logprobs
        weight = importance_weight(objective, old.detach(), engine, mask)
        loss = loss * weight
        metrics["importance_weight_mean"] = ((weight * mask).sum(), mask.sum())
    if objective.kl_coefficient:
        reference = needed(signal, "reference_logprobs", "kl_coefficient")
        ratio = objective.ratio(logprobs, old_logprobs)[1]
        penalty = reference_kl(logprobs, reference, objective.kl_estimator, ratio.detach())
        loss = loss + objective.kl_coefficient * penalty
        metrics["kl_reference"] = ((penalty.detach() * mask).sum(), mask.sum())
    if objective.entropy_coefficient:
        loss = loss - objective.entropy_coefficient * needed(signal, "entropy", "entropy_coefficient")
    return loss, metrics


def reference_kl(logprobs: Tensor, reference: Tensor, estimator: str, ratio: Tensor) -> Tensor:
    """Return [B, T] estimates of KL(policy || reference) at sampled tokens (Schulman, 2020).

    With d = log policy - log reference: ``k1`` has the value d and the gradient of k2, since its own
    gradient is zero in expectation; ``k2`` is d^2 / 2; ``k3`` is exp(-d) - 1 + d, whose own gradient
    1 - exp(-d) is biased: in expectation it is that of KL(reference || policy). ``k3_unbiased``
    is R times k3 with the gradient R d, which is the divergence's own in expectation over the
    policy that wrote the rollout (arXiv 2512.02556, section 3.1).

    Args:
        logprobs: [B, T] with gradient. reference: [B, T].
        ratio: R [B, T] without gradient, the policy's ratio to the one that wrote the rollout.
    """
    d = widen(logprobs) - widen(reference).detach()
    k3 = (-d).clamp(max=10.0).exp() - 1 + d
    if estimator == "k3":
        return k3
    if estimator == "k3_unbiased":
        return (ratio * k3).detach() + (ratio * d).detach() * (d - d.detach())
    half_square = d**2 / 2
    if estimator == "k2":
        return half_square
    return d.detach() + (half_square - half_square.detach())


def importance_weight(objective: Objective, old: Tensor, engine: Tensor, mask: Tensor) -> Tensor:
    """Return [B, T] without gradient: old over engine likelihood, truncated (TIS) or masked (MIS).

    What the engine could not score, NaN or infinite, weighs 0.
    """
    log_weight = widen(old) - widen(engine).detach()
    level = objective.importance_correction_level
    bounded = log_weight
    if level != "token":
        bounded = sequence_sum(log_weight, mask).expand_as(mask)
    if level == "sequence":
        log_weight = bounded
    if level == "geometric":
        bounded = bounded / tokens_of(mask)
    scored = torch.isfinite(log_weight) & torch.isfinite(bounded)
    weight = torch.where(scored, log_weight, 0.0).clamp(max=20.0).exp()
    if objective.importance_correction == "truncate":
        return weight.clamp(max=objective.importance_ratio_high) * scored
    ratio = torch.where(scored, bounded, 0.0).clamp(max=20.0).exp()
    inside = (ratio >= objective.importance_ratio_low) & (ratio <= objective.importance_ratio_high)
    if objective.importance_correction == "reject":
        weight = torch.ones_like(weight)
    return weight * (inside & scored)


def off_policy(
    objective: Objective,
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    mask: Tensor,
    signal: Mapping[str, Tensor],
) -> Tensor:
    """Return [B, T] bool: the row counts against its tokens and is further off policy than allowed."""
    log_ratio = objective.ratio(logprobs.detach(), old_logprobs)[0]
    apart = -sequence_sum(log_ratio, mask) / tokens_of(mask)
    if "advantage" in signal:
        negative = signal["advantage"] < 0
    else:
        negative = signal["reward"] < signal.get("prompt_accuracy", 0.5)
    return (negative[:, None] & (apart > objective.off_policy_mask)).expand_as(mask)
