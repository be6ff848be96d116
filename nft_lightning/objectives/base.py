"""What every algorithm shares: the contract, the ratio, and the call for other people's loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.batching.weights import REDUCTIONS, token_weights
from nft_lightning.errors import UserError
from nft_lightning.objectives.diagnostics import ratio_metrics
from nft_lightning.types import Signal, TokenLoss

MetricPairs = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Requires:
    """What the collector must provide for an algorithm."""

    group_size: int = 1
    old_logprobs: bool = True
    binary_rewards: bool = False


@dataclass(frozen=True)
class Outcomes:
    """A whole rollout as an objective sees it: rewards [N], group_ids [N], lengths [N] tokens.

    ``max_new_tokens`` is None where no limit is known; then length penalties do not apply.
    """

    rewards: Tensor
    group_ids: Tensor
    lengths: Tensor
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class ObjectiveOutput:
    """loss: scalar to minimise; token_loss [B, T] before the reduction; metrics: floats."""

    loss: Tensor
    token_loss: Tensor
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """An algorithm. Its dataclass fields are its configuration.

    ``reduction`` says how token losses become one number (see :mod:`nft_lightning.batching`).
    ``drop_uniform_groups`` leaves out groups that are all right or all wrong, and lets the
    collector refill them (dynamic sampling). ``max_log_ratio`` caps log R before the
    exponential, as the official NFT code does at 10.
    """

    requires: ClassVar[Requires] = Requires()
    reduction: str = "token_mean"
    drop_uniform_groups: bool = False
    max_log_ratio: float = 10.0

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise UserError(
                "algorithm.reduction",
                self.reduction,
                "is not a reduction",
                f"use one of {', '.join(REDUCTIONS)}",
            )

    @abstractmethod
    def prepare(self, outcomes: Outcomes) -> Signal:
        """Once a rollout, over all of it: [N] numbers for ``signal`` and the rows to keep."""

    @abstractmethod
    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """Loss of each token.

        Args:
            logprobs: [B, T], of the sampled tokens under the trained policy.
            old_logprobs: [B, T] under the sampling policy; None where the ratio is identically 1.
            mask: [B, T] bool, completion tokens.
            signal: [B] rows of what ``prepare`` returned, ``reward`` among them.
        """

    def ratio(self, logprobs: Tensor, old_logprobs: Tensor | None) -> tuple[Tensor, Tensor]:
        """log R and R [B, T], in fp32 or wider; the gradient flows through ``logprobs`` alone."""
        logprobs = widen(logprobs)
        old = logprobs.detach() if old_logprobs is None else widen(old_logprobs).detach()
        log_ratio = logprobs - old
        return log_ratio, log_ratio.clamp(max=self.max_log_ratio).exp()

    def diagnose(self, log_ratio: Tensor, mask: Tensor, reward: Tensor) -> MetricPairs:
        """The ratio statistics that every algorithm logs under the same names."""
        return ratio_metrics(log_ratio.detach(), mask, reward > 0)

    def __call__(
        self,
        logprobs: Tensor,
        old_logprobs: Tensor,
        mask: Tensor,
        rewards: Tensor,
        group_ids: Tensor,
        *,
        max_new_tokens: int | None = None,
    ) -> ObjectiveOutput:
        """The objective on plain tensors, for a training loop of your own.

        Args:
            logprobs: [B, T] with gradient. old_logprobs: [B, T]. mask: [B, T], completion tokens.
            rewards: [B], 1 for right and 0 for wrong. group_ids: [B], equal for one problem.
            max_new_tokens: the sampling limit, for length penalties and the ``constant`` reduction.

        Raises:
            UserError: shapes disagree, or the rewards are not what the algorithm takes.
        """
        mask = mask.bool()
        check_shapes(logprobs, old_logprobs, mask, rewards, group_ids)
        signal = self.prepare(Outcomes(rewards, group_ids, mask.sum(1), max_new_tokens))
        kept = mask & signal.keep[:, None]
        weights = token_weights(
            kept.sum(1), signal.keep, self.reduction, max_new_tokens or logprobs.shape[1]
        )
        out = self.token_loss(logprobs, old_logprobs, kept, signal.values)
        loss = (out.loss * weights[:, None].to(out.loss) * kept).sum()
        metrics = {k: float(s / c.clamp(min=1)) for k, (s, c) in out.metrics.items()}
        return ObjectiveOutput(loss, out.loss, metrics)


def widen(x: Tensor) -> Tensor:
    """At least fp32: ratios in half precision lose what they measure."""
    return x if x.dtype == torch.float64 else x.float()


def group_mean(x: Tensor, group_ids: Tensor) -> Tensor:
    """[N] -> [N]: the mean of each row's group."""
    _, index, count = torch.unique(group_ids, return_inverse=True, return_counts=True)
    total = torch.zeros(len(count), dtype=x.dtype, device=x.device).index_add_(0, index, x)
    return (total / count)[index]


def varied_groups(rewards: Tensor, group_ids: Tensor) -> Tensor:
    """[N] bool: the rewards of the row's group differ; for right and wrong alone, 0 < r_q < 1."""
    rewards = rewards.double()
    return group_mean((rewards - group_mean(rewards, group_ids)) ** 2, group_ids) > 1e-12


def masked_pair(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(sum, count) of ``x`` where ``mask``: adds up exactly over micro-batches and ranks."""
    return (x.detach() * mask).sum(), mask.sum()


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
