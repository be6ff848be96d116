"""Preferences within a problem's completions: iterative DPO and InfoNCA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from nft_lightning.common.bounds import bounded
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.objectives.contract import RequiredInputs
from nft_lightning.objectives.options import BINARY, NO_CLIP
from nft_lightning.objectives.tensors import check_binary, sequence_sum, varied_groups, widen
from nft_lightning.types import Signal, TokenLoss

UNSUPPORTED = {
    "overlong_buffer_fraction": BINARY,
    "dual_clip": NO_CLIP,
    "importance_correction": "compares whole completions, whose margin a weight a token would distort",
    "off_policy_mask": "compares whole completions, of which none can leave alone",
    "prompt_weight": "normalises each problem by its own pairs",
}


@dataclass(frozen=True, kw_only=True)
class DPO(Objective):
    """Iterative Direct Preference Optimization on all pairs of a right and a wrong completion.

    ``-log sigmoid(beta (D_i - D_j))``, mean over the pairs of a problem; ``D = sum_t log R_t``
    against the policy that wrote the rollout, the anchor of each iteration. Each token of a row
    holds the row's share of the loss, so that ``sequence_mean`` gives the mean over problems.
    Below, T is the row's length, P of the K completions are right, and the mean is over partners:

    Right: ``beta T K/P mean_j sigmoid(-beta (D_i - D_j)) + sft_coefficient``
    Wrong: ``-beta T K/(K-P) mean_i sigmoid(-beta (D_i - D_j))``
    Source: arXiv 2305.18290, iterated

    Attributes:
        beta: inverse temperature of the implicit reward.
        sft_coefficient: factor on ``-log pi`` of right tokens, a regulariser.
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(
        group_size=2, binary_rewards=True, whole_groups=True
    )
    unsupported_options: ClassVar[Mapping[str, str]] = UNSUPPORTED
    drop_uniform_groups: bool = True
    beta: float = bounded(0.1, above=0, finite=True, use="0.1")
    sft_coefficient: float = bounded(0.0, least=0, finite=True, use="0 for off")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.drop_uniform_groups:
            raise UserError(
                "algorithm.drop_uniform_groups",
                False,
                "leaves groups without a pair of a right and a wrong answer",
                "leave it true",
            )

    def signal(self, outcomes: Outcomes) -> Signal:
        """Return rows that can be paired: not empty, kept by the options, right and wrong in one
        group.
        """
        made = super().signal(outcomes)
        usable = made.keep & (outcomes.lengths > 0)
        # Groups are judged by the rows that remain, so that no pair lacks a side.
        sides = torch.where(usable, outcomes.rewards, torch.full_like(outcomes.rewards, float("nan")))
        group = made.values["group"]
        count = int(group.max()) + 1 if len(group) else 0
        right, wrong = (
            torch.zeros(count, dtype=torch.bool, device=group.device).index_fill(
                0, group[sides == s], True
            )
            for s in (1, 0)
        )
        return replace(made, keep=usable & (right & wrong)[group])

    def prepare(self, outcomes: Outcomes) -> Signal:
        """Return which problem each completion belongs to."""
        check_binary(outcomes.rewards, type(self).__name__)
        group = torch.unique(outcomes.group_ids, return_inverse=True)[1]
        keep = varied_groups(outcomes.rewards, outcomes.group_ids)
        return Signal({"reward": outcomes.rewards, "group": group}, keep)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        log_ratio = self.ratio(logprobs, old_logprobs)[0]
        implicit = self.beta * sequence_sum(log_ratio, mask)[:, 0]
        right = signal["reward"] > 0
        valid = mask.any(1)
        group = signal["group"]
        together = (group[:, None] == group[None, :]) & valid[:, None] & valid[None, :]
        share = self.shares(implicit, right, together)
        loss = share[:, None].expand_as(log_ratio)
        if self.sft_coefficient:
            loss = loss - self.sft_coefficient * right[:, None] * widen(logprobs)
        return TokenLoss(loss)

    def shares(self, implicit: Tensor, right: Tensor, together: Tensor) -> Tensor:
        """Return [B]: each row's part of its group's loss; their mean over a group is the group's loss.

        Args:
            implicit: [B], beta D. right: [B] bool. together: [B, B] bool, rows of one problem.
        """
        pairs = together & (right[:, None] != right[None, :])
        sign = torch.where(right, 1.0, -1.0).to(implicit)
        margin = sign[:, None] * (implicit[:, None] - implicit[None, :])
        loss = torch.where(pairs, softplus(-margin), torch.zeros_like(margin)).sum(1)
        # Each pair occurs in two rows: half of its loss is on each.
        count = (pairs.sum(1) * (together & (right[:, None] == right[None, :])).sum(1)).clamp(min=1)
        return loss * together.sum(1) / (2 * count)


@dataclass(frozen=True, kw_only=True)
class InfoNCA(DPO):
    """InfoNCA, the NFT paper's iterative-DPO baseline: one softmax over all K completions.

    ``-sum_k (r_k / sum r) log softmax_k(beta D)``; with one right and one wrong completion it is
    DPO. Below, p_k is the softmax, T the row's length and P of the K completions are right:

    Right: ``beta T K (1/P - p_k) + sft_coefficient``
    Wrong: ``-beta T K p_k``
    Source: arXiv 2402.05369; arXiv 2505.18116, App. B.2
    """

    def shares(self, implicit: Tensor, right: Tensor, together: Tensor) -> Tensor:
        """Return [B]: the group's loss, on each of its rows."""
        scores = torch.where(together, implicit[None, :], implicit.new_full((), -1e30))
        normalizer = scores.logsumexp(1)
        chosen = together & right[None, :]
        mean = torch.where(chosen, implicit[None, :], torch.zeros_like(scores)).sum(1)
        return torch.where(
            together.any(1), normalizer - mean / chosen.sum(1).clamp(min=1), torch.zeros_like(mean)
        )
