"""LoRA's matrices as a weight sync of their own: the engine adds their product, nothing is merged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nft_lightning.distributed.shards import whole
from nft_lightning.engines.adapters import checkpoint_parameters, dense, shape_of
from nft_lightning.engines.base import EngineConfig, SyncError
from nft_lightning.errors import UserError
from nft_lightning.policy.lora import linear_names, outside_decoder

MERGED, ALONE = "merged", "alone"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM has room for; a smaller one goes into the next."""
FIELD = "rollout.engine.adapters"


def check_way(given: str) -> None:
    """Raise UserError where ``rollout.engine.adapters`` is neither ``merged`` nor ``alone``."""
    if given not in (MERGED, ALONE):
        raise UserError(FIELD, given, "is not known", f"use {MERGED} or {ALONE}")


def room_for(rank: int) -> int:
    """Return the rank that vLLM is to have room for; UserError where it has none."""
    if rank > RANKS[-1]:
        remedy = f"use {RANKS[-1]} or less, or {FIELD}={MERGED}"
        raise UserError("policy.lora_rank", rank, "is more than vLLM has room for", remedy)
    return next(room for room in RANKS if room >= rank)


def check_alone(engine: EngineConfig, policy: Any) -> None:
    """Raise UserError where ``adapters=alone`` has nothing to send, or more than vLLM has room for.

    Args:
        engine, policy: configs, of the engine and of how the policy is held.
    """
    if not engine.sends_adapters_alone():
        return
    if not policy.lora_rank:
        remedy = f"set policy.lora_rank=16, or use {MERGED}"
        raise UserError(FIELD, ALONE, "has no effect without LoRA", remedy)
    room_for(policy.lora_rank)


def check_adapted_layers(engine: EngineConfig, policy: Any, model: nn.Module) -> None:
    """Raise UserError where ``model`` has adapters in layers that ``adapters=alone`` cannot send."""
    if not engine.sends_adapters_alone():
        return
    if layer := outside_decoder(model):
        problem = f"adapts {layer!r}, which does not fit {FIELD}={ALONE}"
        remedy = f"name layers: {linear_names(model)}"
        raise UserError("policy.lora_targets", policy.lora_targets, problem, remedy)


def base_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the frozen weights under their checkpoint names, as if there were no adapters.

    Shards are gathered: a collective call, every rank must iterate in step.

    Raises:
        SyncError: one of them trains, so that sending it once would not do.
    """
    for name, parameter, _ in checkpoint_parameters(model):
        if parameter.requires_grad:
            raise SyncError(f"weight sync: {name!r} trains beside the adapters: use {FIELD}={MERGED}")
        yield name, dense(whole(parameter))


def adapter_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield each adapted layer's A [r, in] and scaling B [out, r] (fp32), a collective call for
    shards.
    """
    for name, layer in adapted_layers(model):
        a, b, scaling = matrices(name, layer)
        yield name_of(name, "lora_A"), whole(a).detach()
        yield name_of(name, "lora_B"), whole(b).detach().float() * scaling


def adapter_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Return what :func:`adapter_tensors` will give."""
    shapes: dict[str, torch.Size] = {}
    for name, layer in adapted_layers(model):
        a, b, _ = matrices(name, layer)
        shapes[name_of(name, "lora_A")] = shape_of(a)
        shapes[name_of(name, "lora_B")] = shape_of(b)
    return shapes


def adapted_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Return the weight's name in the checkpoint and peft's layer, of each that has an adapter."""
    return [(name, layer) for name, _, layer in checkpoint_parameters(model) if layer is not None]


def name_of(weight: str, matrix: str) -> str:
    """Return the name of a matrix beside ``weight``: ``x.weight`` and ``lora_A`` is x.lora_A.weight."""
    return f"{weight.removesuffix('.weight')}.{matrix}.weight"


def weight_of(matrix: str) -> str:
    """Return the name of the weight that a matrix belongs to."""
    return f"{matrix.rpartition('.lora_')[0]}.weight"


def matrices(name: str, layer: Any) -> tuple[Tensor, Tensor, float]:
    """Return A, B and what their product counts; SyncError unless one adapter is there and live."""
    live = [a for a in layer.active_adapters if a in layer.lora_A]
    if layer.disable_adapters or layer.merged_adapters or len(live) != 1:
        raise SyncError(f"weight sync: {name!r} must have one adapter, neither merged nor off")
    (adapter,) = live
    return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, layer.scaling[adapter]


def shape_between(a: Tensor, b: Tensor) -> torch.Size:
    """Return the shape [out, in] of the product B A."""
    return torch.Size((shape_of(b)[0], shape_of(a)[1]))
