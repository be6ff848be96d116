"""What of a policy does not train: the reference, and weights under adapters."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from nft_lightning.errors import UserError
from nft_lightning.policy.checksum import checksum
from nft_lightning.policy.lora import has_adapters, without_adapters
from nft_lightning.policy.policy import Policy
from nft_lightning.types import TokenBatch

PREFIX = "policy."


class Frozen:
    """Weights that no checkpoint holds, because they are as they were when the run began.

    Attributes:
        copy: the teacher; or the policy as it was, where a reference is wanted and all weights train;
            else None: under LoRA the weights without their adapters are the reference.
        names: the policy's own parameters that do not train, aliases included.
        mark: a checksum of the frozen parameters, which distinguishes other weights.
    """

    def __init__(self, policy: Policy, reference: bool, teacher: Policy | None = None) -> None:
        named = policy.named_parameters(remove_duplicate=False)
        self.names = [name for name, parameter in named if not parameter.requires_grad]
        self.copy = teacher
        if teacher is None and reference and not has_adapters(policy.model):
            self.copy = copy.deepcopy(policy).requires_grad_(False)
        held = [policy] if self.copy is None else [self.copy]
        if teacher is not None:
            held.append(policy)
        self.mark = checksum(
            (name, p) for part in held for name, p in part.named_parameters() if not p.requires_grad
        )

    def logprobs(self, policy: Policy, micro: TokenBatch) -> Tensor:
        """Return [B, T] by the reference; ``policy`` is the one in training."""
        if self.copy is not None:
            return self.copy.to(micro.mask.device)(micro).logprobs
        with without_adapters(policy.model):
            return policy(micro).logprobs

    def leave_out(self, checkpoint: dict[str, Any]) -> None:
        """Take the frozen weights out of a checkpoint of Lightning's."""
        checkpoint["frozen"] = self.mark
        state = checkpoint["state_dict"]
        # A 4-bit weight has entries of its own beside it, named WEIGHT.something.
        roots = tuple(PREFIX + name + "." for name in self.names)
        named = {PREFIX + name for name in self.names}
        for key in [k for k in state if k in named or k.startswith(roots)]:
            del state[key]

    def put_back(self, checkpoint: dict[str, Any], policy: Policy) -> None:
        """The other way; UserError where the weights are not those that the run began with."""
        if checkpoint["frozen"] != self.mark:
            raise UserError(
                "model",
                "its weights",
                "are not those that the run began with, which it still needs",
                "restore its files",
            )
        own = policy.state_dict()
        checkpoint["state_dict"].update({PREFIX + name: own[name] for name in self.names})
