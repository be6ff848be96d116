"""A model's checkpoint as if its LoRA adapters were merged, without touching the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nft_lightning.distributed import shards
from nft_lightning.distributed.shards import gathered, whole
from nft_lightning.engines.base import SyncError
from nft_lightning.policy.lora import has_adapters

PEFT_PREFIX = "base_model.model."
BASE = ".base_layer."


def checkpoint_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor, Any]]:
    """Name in the checkpoint, parameter, and the LoRA layer of peft that changes it (None: nobody).

    Of a layer that peft trains whole (``modules_to_save``) it is the trained copy that counts.

    Raises:
        SyncError: an adapter that is not plain LoRA, so that adding its product would be wrong.
    """
    if not has_adapters(model):
        yield from ((name, parameter, None) for name, parameter in model.named_parameters())
        return
    refuse_other_adapters(model)
    for name, parameter in model.named_parameters():
        if ".lora_" in name or ".original_module." in name:
            continue
        plain = re.sub(r"\.modules_to_save\.[^.]+\.", ".", name.removeprefix(PEFT_PREFIX))
        if BASE not in name:
            yield plain, parameter, None
            continue
        layer = model.get_submodule(name.partition(BASE)[0])
        yield plain.replace(BASE, "."), parameter, layer if name.endswith(".weight") else None


def refuse_other_adapters(model: nn.Module) -> None:
    """Raise SyncError where merging would not be W + scaling B A."""
    kinds = {str(getattr(c.peft_type, "value", c.peft_type)) for c in adapters(model).values()}
    if kinds - {"LORA"}:
        raise SyncError(f"weight sync: {min(kinds - {'LORA'})} adapters cannot be merged; use LoRA")
    weights: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not hasattr(module, "lora_A"):
            weight = getattr(module, "weight", None)
            if weight is not None:
                weights.setdefault(id(weight), name)
            continue
        if getattr(module, "lora_variant", None) or any(getattr(module, "lora_bias", {}).values()):
            raise SyncError(f"weight sync: the adapter of {name!r} is not plain LoRA (DoRA, a bias ...)")
    for name, module in model.named_modules():
        own = getattr(module, "base_layer", None) if hasattr(module, "lora_A") else None
        shared = own is not None and weights.get(id(own.weight), "").startswith(f"{name}.base_layer")
        if own is not None and not (own.weight.is_floating_point() or packed(own.weight)):
            raise SyncError(f"weight sync: {name!r} is quantized, so its adapter cannot be merged")
        if own is not None and not shared:
            raise SyncError(
                f"weight sync: {name!r} has an adapter but shares its weight (tied embeddings)"
            )


def packed(parameter: Tensor) -> bool:
    """Return whether it is one of bitsandbytes' 4-bit weights."""
    return getattr(parameter, "quant_state", None) is not None


def dense(parameter: Tensor) -> Tensor:
    """Return the weight that computes; of a 4-bit one what it stands for, a new tensor."""
    if not packed(parameter):
        return parameter.detach()
    from bitsandbytes.functional import dequantize_4bit

    weight: Tensor = dequantize_4bit(parameter.data, parameter.quant_state)  # type: ignore[attr-defined]
    return weight


def shape_of(parameter: Tensor) -> torch.Size:
    """Return the shape of the weight that computes."""
    if packed(parameter):
        return parameter.quant_state.shape  # type: ignore[attr-defined]
    return shards.shape_of(parameter)


def dtype_of(parameter: Tensor) -> torch.dtype:
    """Return the type of the weight that computes: of a 4-bit one the type that it was made from."""
    if packed(parameter):
        return parameter.quant_state.dtype  # type: ignore[attr-defined]
    return parameter.dtype


def adapters(model: nn.Module) -> dict[str, Any]:
    """peft's configurations by adapter name."""
    found: dict[str, Any] = model.peft_config  # type: ignore[assignment]
    return found


class Rounding:
    """Adds up how much of the adapters' sums survives the type that an engine holds its weights in.

    Attributes:
        dtype: the engine's; None is the parameters' own.
    """

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.dtype = dtype
        self.products: list[Tensor] = []

    def add(self, base: Tensor, delta: Tensor, weight: Tensor) -> None:
        """Note one weight: before, the exact sum to it (fp32), and after; all of one shape."""
        kind = self.dtype or weight.dtype
        got = weight.to(kind).float() - base.to(kind).float()
        self.products.append(torch.stack([(got * delta).sum(), (delta * delta).sum()]))

    def survived(self) -> float | None:
        """Return the share of the update along itself, 1 for none yet; None without adapters."""
        if not self.products:
            return None
        got, wanted = torch.stack(self.products).sum(0).tolist()
        return got / wanted if wanted else 1.0


def merged(parameter: Tensor, layer: Any, rounding: Rounding | None = None) -> Tensor:
    """W + scaling B A of the active adapters that are not in W yet; a new tensor, or W itself.

    Shards are gathered: a collective call.
    """
    base = dense(whole(parameter))
    if layer is None or layer.disable_adapters:
        return base
    delta: Tensor | None = None
    with gathered([p for name, p in layer.named_parameters() if name.startswith("lora_")]):
        for name in layer.active_adapters:
            known = name in layer.lora_A or name in layer.lora_embedding_A
            if known and name not in layer.merged_adapters:
                part = whole(layer.get_delta_weight(name).detach()).to(base.device, torch.float32)
                delta = part if delta is None else delta + part
    if delta is None:
        return base
    # Rounded once: a sum of two rounded tensors would lose more.
    weight = (base.float() + delta).to(base.dtype)
    if rounding is not None:
        rounding.add(base, delta, weight)
    return weight
