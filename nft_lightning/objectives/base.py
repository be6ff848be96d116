"""What every algorithm shares: the contract, the ratio, and the call for other people's loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from nft_lightning.batching.aligned import aligned
from nft_lightning.batching.reduction import REDUCTIONS, token_weights
from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError
from nft_lightning.objectives.contract import (
    CriticOptions,
    InitSignature,
    ObjectiveOutput,
    RequiredInputs,
)
from nft_lightning.objectives.diagnostics import gradient_pair, ratio_metrics, ratio_sums, summarise
from nft_lightning.objectives.options import (
    CORRECTIONS,
    KL_ESTIMATORS,
    LEVELS,
    check_options,
    with_options,
)
from nft_lightning.objectives.tensors import check_shapes, check_tensors, group_mean, widen
from nft_lightning.types import Signal, TokenLoss

OFF = "0 for off"


@dataclass(frozen=True)
class Outcomes:
    """A whole rollout as an objective sees it: rewards [N], group_ids [N], lengths [N] tokens.

    ``max_new_tokens`` is None where no limit is known; then length penalties do not apply.
    ``truncated`` [N] bool marks completions that met the limit; None means not known.
    """

    rewards: Tensor
    group_ids: Tensor
    lengths: Tensor
    max_new_tokens: int | None = None
    truncated: Tensor | None = None


def every_row(outcomes: Outcomes) -> Signal:
    """Return every row as one that takes part, with its reward."""
    keep = torch.ones_like(outcomes.rewards, dtype=torch.bool)
    return Signal({"reward": outcomes.rewards}, keep)


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """An algorithm. Its dataclass fields are its configuration.

    Attributes:
        reduction: how token losses become one number (see :mod:`nft_lightning.batching`).
        drop_uniform_groups: leave out groups that are all right or all wrong, and let the
            collector refill them (dynamic sampling).
        max_log_ratio: caps log R before the exponential, as the official NFT code does at 10.
        kl_coefficient, kl_estimator: KL to the initial policy, see
            :func:`nft_lightning.objectives.options.reference_kl`; 0 is off.
        entropy_coefficient: bonus on the policy's entropy; 0 is off.
        mask_truncated: completions that met ``max_new_tokens`` leave the loss (overlong masking).
        overlong_buffer_fraction: soft length penalty (DAPO, arXiv 2503.14476, Eq. 13) that grows
            over the last fraction of ``max_new_tokens``; 0 is off.
        overlong_penalty: the penalty at full length.
        dual_clip: bound c on R where the advantage is negative (arXiv 1912.09729); 0 is off.
        importance_correction: importance sampling against the engine's log-probabilities: ``none``,
            ``truncate`` (TIS) at ``importance_ratio_high``, ``mask`` (MIS) to 0 outside
            [``importance_ratio_low``, ``importance_ratio_high``], or ``reject``, which masks alike
            and weighs what is inside by 1.
        importance_correction_level: the ratio of each ``token``; of each ``sequence``, the product
            over its tokens; or ``geometric``, where the geometric mean over a sequence's tokens is
            held against bounds close to 1, and each token of a sequence that stays has its own.
        off_policy_mask: delta of off-policy sequence masking (arXiv 2512.02556, Eq. 9): a wrong
            answer, or one of negative advantage, leaves the loss where ``mean_t log(old / new)``
            is above it; 0 is off.
    """

    __signature__: ClassVar[InitSignature] = InitSignature()
    required_inputs: ClassVar[RequiredInputs] = RequiredInputs()
    # Options that make no sense here, each with its reason.
    unsupported_options: ClassVar[Mapping[str, str]] = {}
    # A number of ``prepare`` that every loss is a multiple of: where it is 0, so is the gradient.
    advantage_key: ClassVar[str | None] = None

    reduction: str = bounded("token_mean", choices=REDUCTIONS)
    drop_uniform_groups: bool = False
    max_log_ratio: float = 10.0
    kl_coefficient: float = bounded(0.0, least=0, finite=True, use=OFF)
    kl_estimator: str = bounded("k3", choices=KL_ESTIMATORS)
    entropy_coefficient: float = bounded(0.0, least=0, finite=True, use=OFF)
    mask_truncated: bool = False
    overlong_buffer_fraction: float = bounded(0.0, least=0, below=1, use="0 (off) or 0.2")
    overlong_penalty: float = bounded(1.0, least=0, finite=True, use=OFF)
    dual_clip: float = 0.0
    importance_correction: str = bounded("none", choices=CORRECTIONS)
    importance_correction_level: str = bounded("token", choices=LEVELS)
    importance_ratio_low: float = bounded(0.5, least=0, below=1, use="0.5")
    importance_ratio_high: float = bounded(2.0, above=1, finite=True, use="2.0")
    off_policy_mask: float = bounded(0.0, least=0, finite=True, use=OFF)

    def __new__(cls, *_: object, **given: object) -> Self:
        """Raises UserError, with the reason, for an option that the algorithm refuses."""
        defaults = {f.name: f.default for f in fields(cls)}
        for name in cls.unsupported_options.keys() & given.keys():
            if name not in defaults or given[name] != defaults[name]:
                raise UserError(
                    f"algorithm.{name}",
                    given[name],
                    f"makes no sense for {cls.__name__}, which {cls.unsupported_options[name]}",
                    "leave it out",
                )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_bounds(self, "algorithm")
        check_options(self)

    @property
    def teacher_model(self) -> str | None:
        """Return the folder or hub name of the teacher, for objectives that need one."""
        return None

    @property
    def critic_options(self) -> CriticOptions:
        """Return where a critic comes from and how fast it learns, for objectives that need values."""
        return CriticOptions()

    @property
    def needed_inputs(self) -> RequiredInputs:
        """``requires`` of the class, and what the chosen options need on top."""
        own = self.required_inputs
        return replace(
            own,
            reference_logprobs=own.reference_logprobs or self.kl_coefficient > 0,
            engine_logprobs=own.engine_logprobs or self.importance_correction != "none",
            entropy=own.entropy or self.entropy_coefficient > 0,
        )

    @abstractmethod
    def prepare(self, outcomes: Outcomes) -> Signal:
        """Once a rollout, over all of it: numbers for ``signal`` and the rows to keep.

        A number of each completion goes to ``values``, [N]; one of each token to ``token_values``, N
        tensors of ``outcomes.lengths`` numbers.
        """

    @abstractmethod
    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """Loss of each token.

        Args:
            logprobs: [B, T], of the sampled tokens under the trained policy.
            old_logprobs: [B, T] under the sampling policy; None where the ratio is identically 1.
            mask: [B, T] bool, completion tokens.
            signal: rows of what ``prepare`` returned, [B], ``reward`` among them, or [B, T] where it
                gave a number of each token; and the [B, T] tensors that ``needs`` names.
        """

    def signal(self, outcomes: Outcomes) -> Signal:
        """:meth:`prepare`, without what the options leave out, and which rows have no gradient."""
        made = self.prepare(outcomes)
        if self.advantage_key and not (self.kl_coefficient or self.entropy_coefficient):
            active = (made.values[self.advantage_key] != 0).double()
            made = replace(made, zero_gradient=group_mean(active, outcomes.group_ids) == 0)
        if not self.mask_truncated or outcomes.truncated is None:
            return made
        return replace(made, keep=made.keep & ~outcomes.truncated.bool())

    def loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """:meth:`token_loss` with the options around it and the metrics that all algorithms log.

        Whatever is at masked places of the [B, T] tensors, NaN too, reaches neither; nor does a
        token that the policy scores and the policy that wrote it could not.
        """
        if old_logprobs is not None:
            mask = mask & (torch.isfinite(old_logprobs) | ~torch.isfinite(logprobs))
            old_logprobs = torch.where(mask, old_logprobs, 0.0)
        logprobs = torch.where(mask, logprobs, 0.0)
        signal = {k: torch.where(mask, x, 0.0) if x.dim() == 2 else x for k, x in signal.items()}
        made = self.token_loss(logprobs, old_logprobs, mask, signal)
        loss, added = with_options(self, made.loss, logprobs, old_logprobs, mask, signal)
        log_ratio = self.ratio(logprobs.detach(), old_logprobs)[0]
        right = signal["reward"] > 0
        metrics = {**ratio_metrics(log_ratio, mask, right), **added, **made.metrics}
        sums = {**ratio_sums(log_ratio, mask, right), **made.sums}
        return TokenLoss(torch.where(mask, loss, 0.0), metrics, sums)

    def ratio(self, logprobs: Tensor, old_logprobs: Tensor | None) -> tuple[Tensor, Tensor]:
        """log R and R [B, T], in fp32 or wider; the gradient flows through ``logprobs`` only."""
        logprobs = widen(logprobs)
        old = logprobs.detach() if old_logprobs is None else widen(old_logprobs).detach()
        log_ratio = logprobs - old
        return log_ratio, log_ratio.clamp(max=self.max_log_ratio).exp()

    def length_penalty(self, outcomes: Outcomes) -> Tensor:
        """Return [N], in [-overlong_penalty, 0], to add to the rewards."""
        lengths = outcomes.lengths.double()
        if not self.overlong_buffer_fraction or outcomes.max_new_tokens is None:
            return torch.zeros_like(lengths)
        buffer = self.overlong_buffer_fraction * outcomes.max_new_tokens
        excess = lengths - (outcomes.max_new_tokens - buffer)
        return -(excess / buffer).clamp(min=0, max=1) * self.overlong_penalty

    def __call__(
        self,
        logprobs: Tensor,
        old_logprobs: Tensor,
        mask: Tensor,
        rewards: Tensor,
        group_ids: Tensor,
        *,
        max_new_tokens: int | None = None,
        truncated: Tensor | None = None,
        **tensors: Tensor,
    ) -> ObjectiveOutput:
        """Return the objective on plain tensors, for a training loop of your own.

        Args:
            logprobs: [B, T] with gradient. old_logprobs: [B, T]. mask: [B, T], completion tokens.
            rewards: [B], 1 for right and 0 for wrong. group_ids: [B], equal for one problem.
            max_new_tokens: the sampling limit, for length penalties and the ``constant`` reduction.
            truncated: [B] bool, completions that met it, for ``mask_truncated``.
            tensors: [B, T] by name, where algorithm or options need them: ``reference_logprobs``,
                ``engine_logprobs``, ``entropy`` and ``values`` (both with gradient), ``old_values``.

        Raises:
            UserError: shapes disagree, a tensor is missing, or the rewards are not what the
                algorithm takes.
        """
        mask = mask.bool()
        check_shapes(logprobs, old_logprobs, mask, rewards, group_ids)
        check_tensors(tensors, logprobs)
        if self.mask_truncated and truncated is None:
            raise UserError("truncated", None, "is missing, which mask_truncated needs", "give it, [B]")
        signal = self.signal(Outcomes(rewards, group_ids, mask.sum(1), max_new_tokens, truncated))
        kept = mask & signal.keep[:, None]
        weights = token_weights(
            kept.sum(1), signal.keep, self.reduction, max_new_tokens or logprobs.shape[1]
        )
        by_token = {name: aligned(own, mask) for name, own in signal.token_values.items()}
        out = self.loss(logprobs, old_logprobs, kept, {**signal.values, **by_token, **tensors})
        loss = (out.loss * weights[:, None].to(out.loss) * kept).sum()
        metrics = {k: float(s / c.clamp(min=1)) for k, (s, c) in out.metrics.items()}
        for name, sums in out.sums.items():
            metrics |= summarise(name, sums)
        if logprobs.requires_grad:
            (slope,) = torch.autograd.grad(loss, logprobs, retain_graph=True)
            wrong, everything = gradient_pair(slope, kept, rewards > 0)
            metrics["wrong_gradient_fraction"] = float(wrong / everything.clamp(min=1e-30))
        return ObjectiveOutput(loss, out.loss, metrics)
