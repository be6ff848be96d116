"""A model as the policy that trains: weights, adapters, and the way to its log-probabilities."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch.plugins import Precision
from torch import nn

from nft_lightning.assets import TINY_POLICIES
from nft_lightning.common.arguments import configs_with
from nft_lightning.distributed.processes import local_rank
from nft_lightning.errors import UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import HFModel, TinyModel
from nft_lightning.policy.lora import has_adapters
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.precision import as_it_trains, cast_to_half
from nft_lightning.policy.private_transformers import flash
from nft_lightning.policy.requirements import check_policy


def load_policy(
    path: str,
    config: PolicyConfig | None = None,
    *,
    temperature: float = 1.0,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    attention: str | None = None,
    **plain: Any,
) -> Policy:
    """Return the policy of a model, ready to train.

    Args:
        path: a folder with ``config.json``, a hub name, or ``tiny`` or ``tiny_unsure``, which ship with
            the package (always float32).
        config: what trains, in which memory. plain: its fields one by one, such as ``lora_rank=16``.
        temperature: the one that completions are sampled at, and log-probabilities taken at.
        dtype: how parameters are stored: ``float32`` or ``bfloat16``, whose optimizer has fp32 masters.
        trust_remote_code: run code that the model's author ships.
        attention: ``sdpa``, ``eager`` or ``flash_attention_2``; None is what transformers chooses.

    Raises:
        UserError: a keyword is not known, a library is missing, or the model cannot be read.
    """
    config = configs_with("load_policy", plain, config=(PolicyConfig, config))["config"]
    if path in TINY_POLICIES:
        given = {"dtype": dtype, "trust_remote_code": trust_remote_code, "attention": attention}
        model: Any = TinyModel(path)
        check_default(given, path)
    else:
        model = HFModel(path, dtype, trust_remote_code, attention)
    check_policy(model, config)
    model.inspect()
    if config.quantize != "none" and torch.cuda.is_available():
        # Quantized weights are loaded on the current device, which would be the first on every rank.
        torch.cuda.set_device(local_rank())
    return prepared(model, config, temperature)


def check_default(given: dict[str, Any], path: str) -> None:
    """Raise UserError for an option that a shipped policy does not have."""
    default = {"dtype": "float32", "trust_remote_code": False, "attention": None}
    for name, value in given.items():
        if value != default[name]:
            raise UserError(name, value, f"has no effect on {path!r}", "leave it out")


def prepared(
    model: Any, config: PolicyConfig, temperature: float, half: torch.dtype | None = None
) -> Policy:
    """Return the policy of a model's config, with adapters as ``config`` says.

    Args:
        model: has ``load``, as :class:`nft_lightning.policy.loading.HFModel`.
        half: what parameters are stored in, None as they are loaded; adapters keep fp32.
    """
    policy: Policy = model.load(temperature, **config.load_options())
    if half is not None:
        cast_to_half(policy.model, half)
    policy.model = config.with_adapters(policy.model)
    policy.config = config
    if not flash(policy.model):
        try_ways(policy, config)
    return policy


def try_ways(policy: Policy, config: PolicyConfig) -> None:
    """Try whether log-probabilities can be fused and rows go without padding; UserError if not."""
    policy.fused = config.fused(policy.model, policy.temperature)
    policy.padding_free = config.free_of_padding(policy)
    policy.tried = True


def settle(policy: Policy, device: torch.device, precision: Precision) -> None:
    """Try what :func:`prepared` could not: flash attention runs on the trainer's device only."""
    if policy.config is None or policy.tried:
        return
    with as_it_trains(policy.model, device, precision):
        try_ways(policy, policy.config)


def whole_copy(policy: Policy, device: torch.device, half: torch.dtype | None) -> nn.Module:
    """Return a frozen copy of the model without its adapters, for an engine beside sharded parameters.

    Args:
        half: what the copy is stored in; None is as the policy is.
    """
    found: Any = copy.deepcopy(policy.model)
    if has_adapters(found):
        found = found.unload()
    found = found.requires_grad_(False).to(device)
    if half is not None:
        cast_to_half(found, half)
    return found
