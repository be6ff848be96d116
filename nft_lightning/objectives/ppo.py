"""PPO: a critic, generalised advantages, and the clipped ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nft_lightning.common.bounds import bounded
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.objectives.clipped import check_clip, clipped_loss
from nft_lightning.objectives.contract import CriticOptions, RequiredInputs
from nft_lightning.objectives.tensors import masked_pair, needed, varied_groups, widen
from nft_lightning.types import Signal, TokenLoss

CRITICS = ("head", "own")


def advantages(
    values: Tensor, mask: Tensor, reward: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (arXiv 1506.02438) with one reward at the last token.

    Args:
        values: [B, T] of the state before each token, without gradient.
        mask: [B, T] bool; unmasked places are skipped over.
        reward: [B].
        gamma, gae_lambda: gamma and lambda.

    Returns:
        advantages [B, T] and returns [B, T]; 0 where ``mask`` is false.
    """
    count = values.shape[1]
    places = torch.arange(count, device=values.device).expand_as(mask)
    # The next token of each place: the nearest masked place behind it, or ``count`` behind the last.
    nearest = torch.where(mask, places, count).flip(1).cummin(1).values.flip(1)
    following = torch.cat([nearest[:, 1:], torch.full_like(nearest[:, :1], count)], 1)
    last = following == count
    next_values = values.gather(1, following.clamp(max=count - 1))
    future = torch.where(last, reward[:, None], gamma * next_values)
    delta = torch.where(mask, future - values, 0.0)
    # A masked place passes on what is behind it.
    factors = torch.ones_like(delta).masked_fill(mask, gamma * gae_lambda)
    made = summed_from_behind(delta, factors) * mask
    return made, (made + values) * mask


def summed_from_behind(terms: Tensor, factors: Tensor) -> Tensor:
    """Return x [B, T] with ``x_t = terms_t + factors_t x_(t+1)``, and 0 behind the last.

    In each of log2(T) rounds x covers twice as many terms: a scan instead of a loop over T.
    """
    shift = 1
    while shift < terms.shape[1]:
        ahead = torch.nn.functional.pad(terms[:, shift:], (0, shift))
        terms = terms + factors * ahead
        factors = factors * torch.nn.functional.pad(factors[:, shift:], (0, shift))
        shift *= 2
    return terms


@dataclass(frozen=True, kw_only=True)
class PPO(Objective):
    """Proximal Policy Optimization with a critic and GAE.

    ``critic=head`` reads the policy's last hidden states without sending a gradient into them;
    ``critic=own`` is a value model with a trunk of its own. Either way the policy's gradient is the
    clipped one only. Advantages are not whitened: no row depends on another. With V the critic's
    value and gamma = lambda = 1:

    Right: ``(1-V) R [R < 1+clip_high]``, signs by that of 1-V
    Wrong: ``-V R [R > 1-clip_low]``, signs by that of -V
    Source: arXiv 1707.06347, arXiv 1506.02438

    Attributes:
        clip_low, clip_high: the trust interval of R is ``[1 - clip_low, 1 + clip_high]``.
        gamma, gae_lambda: gamma and lambda of GAE.
        critic: ``head`` or ``own``, which trains all weights of a second model.
        critic_path: a folder or hub name of the model whose trunk the own critic begins with, for the
            policy's tokens; None is the policy's own weights.
        critic_learning_rate: of that trunk; None is ``optimizer.learning_rate``.
        critic_gae_lambda: lambda of the returns that the critic learns, apart from that of the
            policy's advantages (decoupled GAE, arXiv 2503.01491); None takes ``gae_lambda``.
        value_clip: the value may move this far from the rollout's before its loss stops falling.
        value_learning_rate: of the value head, apart from ``optimizer.learning_rate``.
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(values=True)
    unsupported_options: ClassVar[Mapping[str, str]] = {
        "prompt_weight": "learns a baseline for each token and forms no groups",
        "off_policy_mask": "gives each token an advantage of its own",
    }
    clip_low: float = 0.2
    clip_high: float = 0.2
    gamma: float = bounded(1.0, least=0, most=1, use="1.0")
    gae_lambda: float = bounded(1.0, least=0, most=1, use="1.0")
    critic: str = bounded("head", choices=CRITICS)
    critic_path: str | None = None
    critic_learning_rate: float | None = bounded(None, above=0, finite=True, use="1e-5")
    critic_gae_lambda: float | None = bounded(None, least=0, most=1, use="1.0")
    value_clip: float = bounded(0.2, above=0, finite=True, use="0.2")
    value_learning_rate: float = bounded(1e-3, above=0, finite=True, use="1e-3")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clip(self.clip_low, self.clip_high, self.dual_clip)
        for name in ("critic_path", "critic_learning_rate"):
            if self.critic == "head" and getattr(self, name) is not None:
                raise UserError(
                    f"algorithm.{name}",
                    getattr(self, name),
                    "has no effect on a value head, which has no trunk",
                    "use algorithm.critic=own, or leave it out",
                )

    @property
    def needed_inputs(self) -> RequiredInputs:
        """Return the class's, with what the options and the kind of critic need."""
        return replace(super().needed_inputs, own_critic=self.critic == "own")

    @property
    def critic_options(self) -> CriticOptions:
        """Return the options of the critic as they are given."""
        return CriticOptions(self.critic_path, self.value_learning_rate, self.critic_learning_rate)

    def prepare(self, outcomes: Outcomes) -> Signal:
        """Return the return at the last token: reward and length penalty."""
        keep = torch.ones_like(outcomes.rewards, dtype=torch.bool)
        if self.drop_uniform_groups:
            keep = varied_groups(outcomes.rewards, outcomes.group_ids)
        final = outcomes.rewards.double() + self.length_penalty(outcomes)
        return Signal({"reward": outcomes.rewards, "final_reward": final}, keep)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """Policy loss plus value loss, see :meth:`.Objective.token_loss`."""
        ratio = self.ratio(logprobs, old_logprobs)[1]
        values = widen(needed(signal, "values", type(self).__name__))
        old_values = widen(signal.get("old_values", values)).detach()
        reward = signal["final_reward"].to(old_values)
        advantage, returns = advantages(old_values, mask, reward, self.gamma, self.gae_lambda)
        if self.critic_gae_lambda is not None:
            returns = advantages(old_values, mask, reward, self.gamma, self.critic_gae_lambda)[1]
        policy = clipped_loss(
            ratio, advantage.to(ratio), mask, self.clip_low, self.clip_high, self.dual_clip
        )
        moved = old_values + (values - old_values).clamp(-self.value_clip, self.value_clip)
        error = torch.maximum((values - returns) ** 2, (moved - returns) ** 2) / 2
        metrics = {**policy.metrics, "value_loss": masked_pair(error, mask)}
        return TokenLoss(
            policy.loss + error, metrics, {"value_moments": moments(values.detach(), returns, mask)}
        )


def moments(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Return [5] for the explained variance, see :mod:`nft_lightning.objectives.diagnostics`."""
    gain, error = torch.where(mask, returns, 0.0), torch.where(mask, returns - values, 0.0)
    count = mask.sum().to(gain)
    return torch.stack([count, gain.sum(), (gain**2).sum(), error.sum(), (error**2).sum()])
