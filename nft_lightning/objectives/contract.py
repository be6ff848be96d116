"""What an algorithm needs, and what it returns to a training loop of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RequiredInputs:
    """What an algorithm must be given.

    Attributes:
        group_size: completions of one problem, at least.
        old_logprobs: log-probabilities under the policy that wrote the rollout.
        binary_rewards: rewards are 0 or 1.
        unit_rewards: rewards are in [0, 1].
        reference_logprobs: log-probabilities under the initial policy, frozen.
        teacher: they are those of another model, at the algorithm's ``teacher_path``.
        engine_logprobs: log-probabilities as the engine reported them.
        values: a critic; ``values`` with gradient and ``old_values`` of the rollout.
        own_critic: the critic is a model of its own, and no head on the policy's hidden states.
        entropy: the policy's entropy with gradient.
        whole_groups: the completions of a problem come together in one micro-batch.
        writers_logprobs: the old policy is the one that wrote the completions, and no later one.
        references: worked solutions from the data set instead of sampled completions.
    """

    group_size: int = 1
    old_logprobs: bool = True
    binary_rewards: bool = False
    unit_rewards: bool = False
    reference_logprobs: bool = False
    teacher: bool = False
    engine_logprobs: bool = False
    values: bool = False
    own_critic: bool = False
    entropy: bool = False
    whole_groups: bool = False
    writers_logprobs: bool = False
    references: bool = False

    @property
    def hidden(self) -> bool:
        """Return whether the policy's last hidden states are read."""
        return self.values and not self.own_critic


@dataclass(frozen=True)
class CriticOptions:
    """What an algorithm with a critic says of it; None leaves it to the policy's weights and rate.

    Attributes:
        path: a folder or hub name of the model that an own critic's trunk begins with.
        head_learning_rate, trunk_learning_rate: of the value head, and of that trunk.
    """

    path: str | None = None
    head_learning_rate: float | None = None
    trunk_learning_rate: float | None = None


@dataclass(frozen=True)
class ObjectiveOutput:
    """loss: scalar to minimise; token_loss [B, T] before the reduction; metrics: floats."""

    loss: Tensor
    token_loss: Tensor
    metrics: Mapping[str, float]


class InitSignature:
    """The signature that tools show: that of ``__init__``, not of :meth:`Objective.__new__`."""

    def __get__(self, _: object, owner: type) -> inspect.Signature:
        own = inspect.signature(owner.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:])
