"""What the data module asks of the module in training."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

from nft_lightning.objectives.base import Objective
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.reference import Frozen


@runtime_checkable
class Learner(Protocol):
    """A LightningModule that trains a policy; ``policy_version`` counts its optimizer updates.

    ``critic`` is None where the objective needs no values; ``frozen`` gives reference log-probabilities.
    """

    policy: Policy
    objective: Objective
    policy_version: int
    critic: Any
    frozen: Frozen

    @property
    def device(self) -> torch.device:
        """Return where the policy is."""
        ...
