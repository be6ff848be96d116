"""A run's policy from one of its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nft_lightning.checkpoints.folder import read_weights
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.policy import Policy

PREFIX = "policy."


def restored(base: Any, config: PolicyConfig, folder: Path, temperature: float) -> Policy:
    """Return the policy that ``folder`` holds; weights that do not train are those of ``base``.

    Args:
        base: the model that the run was begun with, as its config's node ``model`` describes it.
        config: how the run held it, adapters and quantization included.

    Raises:
        DamagedCheckpointError: the checkpoint is not as it was written.
        RuntimeError: it belongs to another model.
    """
    weights = read_weights(folder)
    policy: Policy = base.load(temperature, **config.load_options())
    policy.model = config.with_adapters(policy.model)
    found = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
    # What does not train is in no checkpoint.
    own = dict(policy.named_parameters(remove_duplicate=False))
    still = {name: p for name, p in own.items() if not p.requires_grad}
    policy.load_state_dict({**still, **found})
    return policy
