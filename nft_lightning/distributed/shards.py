"""What a parameter is where ranks share it: FSDP2's DTensors, and ZeRO's partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from nft_lightning.distributed.private_deepspeed import gradient_fragment, in_fragments


def whole(tensor: Tensor) -> Tensor:
    """Return the tensor, gathered if it is sharded: a collective call."""
    if isinstance(tensor, DTensor):
        return tensor.full_tensor()
    if not hasattr(tensor, "ds_id"):
        return tensor
    with gathered([tensor]):
        return tensor.detach().clone()


@contextmanager
def gathered(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, ZeRO's partitions are whole, to be read: a collective call. DTensors are left alone."""
    partitions = [t for t in tensors if hasattr(t, "ds_id")]
    if not partitions:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(partitions):
        yield


def on_host(state: Any, *, keep: bool) -> Any:
    """``state`` with tensors whole, copied to the host where ``keep``, else None: a collective call."""

    def moved(tensor: Tensor) -> Tensor | None:
        tensor = whole(tensor).detach()
        return tensor.to("cpu", copy=True) if keep else None

    return apply_to_collection(state, Tensor, moved)


def shape_of(tensor: Tensor) -> torch.Size:
    """Return the whole tensor's."""
    found: torch.Size = getattr(tensor, "ds_shape", tensor.shape)
    return found


def is_sharded(module: nn.Module) -> bool:
    """Return whether parameters are in parts on several ranks."""
    return any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in module.parameters())


def clip_gradients(module: nn.Module, largest: float) -> Tensor:
    """Scale gradients to a norm of at most ``largest``; their norm before, over all ranks' parts."""
    trained = [p for p in module.parameters() if p.requires_grad]
    if any(hasattr(p, "ds_id") or in_fragments(p) for p in trained):
        return clip_parts(trained, largest)
    return whole(torch.nn.utils.clip_grad_norm_(trained, largest))


def clip_parts(trained: Sequence[Any], largest: float) -> Tensor:
    """As :func:`clip_gradients`, of what ZeRO has added up: each element is on one rank."""
    parts = [part for p in trained if (part := gradient_part(p)) is not None]
    total = torch.zeros((), device=trained[0].device, dtype=torch.float32)
    for part in parts:
        total += part.float().square().sum()
    torch.distributed.all_reduce(total)
    norm = total.sqrt()
    # As torch.nn.utils.clip_grad_norm_ does.
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    for part in parts:
        part.mul_(scale.to(part.device, part.dtype))
    return norm


def gradient_part(parameter: Any) -> Tensor | None:
    """This rank's part of a gradient, the very memory that ZeRO steps on; None where it has none."""
    if hasattr(parameter, "ds_id"):
        from deepspeed.utils import safe_get_local_grad

        found: Tensor = safe_get_local_grad(parameter)
        return found
    return gradient_fragment(parameter)
