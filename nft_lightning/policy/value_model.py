"""A critic with a trunk of its own: a second decoder whose last hidden states a value head reads."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from nft_lightning.policy.critic import ValueHead
from nft_lightning.policy.other_model import load_other
from nft_lightning.policy.packed import flat, padded, rows_again
from nft_lightning.policy.policy import Policy, asked
from nft_lightning.policy.private_transformers import rows_known
from nft_lightning.policy.shape import shape_of
from nft_lightning.types import TokenBatch

FIELD = "algorithm.critic_path"


class ValueModel(nn.Module):
    """A decoder without its language head, and a :class:`ValueHead` with gradients into it."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = ValueHead(shape_of(trunk.config).hidden_size)

    def forward(self, batch: TokenBatch, padding_free: bool = False) -> Tensor:
        """Return [B, T] in fp32 or wider: the expected return before each predicted token."""
        view = flat(batch) if padding_free else padded(batch)
        with rows_known(several=view.edges is not None):
            last = self.trunk(**asked(view, self.trunk)).last_hidden_state
        if padding_free:
            last = rows_again(last, batch)
        values: Tensor = self.head(last[:, :-1])
        return values


def critic_of(policy: Policy, path: str | None, *, own: bool) -> ValueHead | ValueModel:
    """Return a value head on the policy's hidden states, or a model of its ``own``.

    Args:
        path: the model whose trunk an own critic begins with; None is the policy.

    Raises:
        UserError: the model at ``path`` cannot be read, or reads other tokens than the policy.
    """
    if not own:
        return ValueHead(shape_of(policy.model.config).hidden_size)
    trunk = copy.deepcopy(decoder(policy)) if path is None else trunk_at(path, policy)
    return ValueModel(trunk.requires_grad_(True))


def parts_of(critic: ValueHead | ValueModel | None) -> list[nn.Module]:
    """Return what trains at a rate of its own: the value head, then the trunk."""
    if isinstance(critic, ValueModel):
        return [critic.head, critic.trunk]
    return [] if critic is None else [critic]


def decoder(policy: Policy) -> Any:
    """Return the decoder of the policy's model."""
    model: Any = policy.model
    return model.get_decoder()


def trunk_at(path: str, policy: Policy) -> Any:
    """Return the decoder of the model at ``path``, stored as the policy's."""
    return decoder(load_other(FIELD, path, policy))


def values_of(critic: Any, policy: Policy, batch: TokenBatch, hidden: Tensor | None) -> Tensor:
    """Return [B, T]: what ``critic`` expects before each token.

    Args:
        critic: a :class:`ValueModel`, or a :class:`ValueHead` on ``hidden``.
        policy: the one in training. hidden: [B, T, H], its last states, where the critic reads them.
    """
    found: Tensor
    found = critic(batch, policy.padding_free) if isinstance(critic, ValueModel) else critic(hidden)
    return found
