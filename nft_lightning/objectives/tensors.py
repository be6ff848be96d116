"""Small tensor functions that the algorithms share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nft_lightning.errors import UserError

TOKEN_TENSORS = ("reference_logprobs", "engine_logprobs", "entropy", "values", "old_values")
ROUNDING = 1e-5
"""Rewards of one group whose standard deviation is at most this are equal up to rounding."""
UNIT_TOLERANCE = 1e-4
"""How far outside [0, 1] a reward may be, which is then clamped: sums of weights are rounded."""
UNIT_REMEDY = "scale what the verifier gives to 0 for wrong and 1 for right, or use algorithm=grpo"


def widen(x: Tensor) -> Tensor:
    """At least fp32: ratios in half precision lose what they measure."""
    return x if x.dtype == torch.float64 else x.float()


def group_mean(x: Tensor, group_ids: Tensor) -> Tensor:
    """Return [N] -> [N]: the mean of each row's group."""
    _, index, count = torch.unique(group_ids, return_inverse=True, return_counts=True)
    total = torch.zeros(len(count), dtype=x.dtype, device=x.device).index_add_(0, index, x)
    return (total / count)[index]


def group_size(group_ids: Tensor) -> Tensor:
    """Return [N] -> [N] int64: the number of rows in each row's group."""
    _, index, count = torch.unique(group_ids, return_inverse=True, return_counts=True)
    return count[index]


def varied_groups(rewards: Tensor, group_ids: Tensor) -> Tensor:
    """Return [N] bool: the rewards of the row's group differ; for right and wrong only, 0 < r_q < 1."""
    rewards = rewards.double()
    return group_mean((rewards - group_mean(rewards, group_ids)) ** 2, group_ids) > ROUNDING**2


def masked_pair(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(sum, count) of ``x`` where ``mask``: adds up exactly over micro-batches and ranks."""
    return (x.detach() * mask).sum(), mask.sum()


def sequence_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Return [B, T] -> [B, 1]: the sum over a row's tokens; whatever is at masked places is
    ignored.
    """
    return torch.where(mask, x, torch.zeros_like(x)).sum(1, keepdim=True)


def tokens_of(mask: Tensor) -> Tensor:
    """Return [B, T] -> [B, 1] int64: a row's tokens, at least 1 so that it divides."""
    return mask.sum(1, keepdim=True).clamp(min=1)


def needed(signal: Mapping[str, Tensor], name: str, by: str) -> Tensor:
    """``signal[name]``, or a UserError that says who needs it."""
    if name not in signal:
        raise UserError(name, None, f"is missing, which {by} needs", f"give {name}=, [B, T]")
    return signal[name]


def check_binary(rewards: Tensor, name: str) -> None:
    """Raise UserError unless every reward is 0 or 1."""
    if bool(((rewards == 0) | (rewards == 1)).all()):
        return
    raise UserError(
        "rewards",
        sorted({round(float(r), 4) for r in rewards})[:5],
        f"are not binary, which {name} needs",
        "give 1 for right and 0 for wrong",
    )


def check_unit(rewards: Tensor, name: str) -> Tensor:
    """Return the rewards inside [0, 1], in fp32 or wider.

    Raises:
        UserError: a reward is outside by more than rounding explains.
    """
    inside = widen(rewards).clamp(0, 1)
    outside = ~((inside - rewards).abs() <= UNIT_TOLERANCE)
    if not bool(outside.any()):
        return inside
    raise UserError(
        "rewards",
        float(rewards[outside][0]),
        f"is outside [0, 1], which {name} needs",
        UNIT_REMEDY,
    )


def check_shapes(logprobs: Tensor, old: Tensor, mask: Tensor, rewards: Tensor, ids: Tensor) -> None:
    """Raise where the five tensors do not belong together."""
    if logprobs.dim() != 2 or old.shape != logprobs.shape or mask.shape != logprobs.shape:
        raise UserError(
            "logprobs, old_logprobs, mask",
            [tuple(x.shape) for x in (logprobs, old, mask)],
            "differ in shape",
            "give three tensors [B, T]",
        )
    rows = (logprobs.shape[0],)
    if tuple(rewards.shape) != rows or tuple(ids.shape) != rows:
        raise UserError(
            "rewards, group_ids",
            [tuple(rewards.shape), tuple(ids.shape)],
            f"do not match B={rows[0]}",
            "give one reward and one group id for each row",
        )


def check_tensors(given: Mapping[str, Tensor], logprobs: Tensor) -> None:
    """Raise UserError for a keyword tensor that is not known, or not [B, T]."""
    for name, tensor in given.items():
        if name not in TOKEN_TENSORS:
            raise UserError(name, "tensor", "is not known", f"use one of {', '.join(TOKEN_TENSORS)}")
        if tensor.shape != logprobs.shape:
            raise UserError(name, tuple(tensor.shape), "differs from logprobs in shape", "give [B, T]")
