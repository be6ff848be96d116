"""An algorithm of one's own: one class, which says what it learns from a rollout and a token's loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import lightning as L
import torch
from torch import Tensor

from nft_lightning import (
    ArithmeticProblems,
    EvaluationConfig,
    ExactVerifier,
    Objective,
    Outcomes,
    PolicyModule,
    RequiredInputs,
    RolloutDataModule,
    Signal,
    TokenLoss,
    group_mean,
    load_policy,
)


@dataclass(frozen=True, kw_only=True)
class Centered(Objective):
    """REINFORCE on rewards minus the mean of the problem's completions, times ``scale``."""

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(group_size=2)
    scale: float = 1.0

    def prepare(self, outcomes: Outcomes) -> Signal:
        """Return each completion's reward and advantage [N]; every completion is kept."""
        advantage = outcomes.rewards - group_mean(outcomes.rewards, outcomes.group_ids)
        values = {"reward": outcomes.rewards, "advantage": advantage}
        return Signal(values, torch.ones_like(advantage, dtype=torch.bool))

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """Return the loss of each token [B, T]."""
        _, ratio = self.ratio(logprobs, old_logprobs)
        return TokenLoss(-self.scale * signal["advantage"][:, None] * ratio)


if __name__ == "__main__":
    policy = load_policy("tiny")
    evaluation = EvaluationConfig(problems=20, completions_per_problem=4)
    data = RolloutDataModule(
        policy,
        ArithmeticProblems(),
        ExactVerifier(),
        prompt_template="equals",
        evaluation=evaluation,
        problems_per_rollout=16,
    )
    module = PolicyModule(policy, Centered(), learning_rate=2e-4)
    trainer = L.Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False)
    trainer.fit(module, data)
    print(f"avg@4 is {trainer.callback_metrics['eval/avg_at_4']:.2f}")
