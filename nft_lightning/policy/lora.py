"""LoRA: small trained matrices beside frozen weights, by peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nft_lightning.errors import UserError


def adapted(model: nn.Module, rank: int, alpha: int, targets: str) -> nn.Module:
    """``model`` with adapters that do nothing yet, and everything else frozen.

    Args:
        model: changed in place, and wrapped.
        rank, alpha: W + alpha / rank * B A (arXiv 2106.09685).
        targets: ``all-linear`` (all but the head), or names of layers with commas between them.

    Raises:
        UserError: no layer has such a name.
    """
    from peft import LoraConfig, get_peft_model

    named = targets if targets == "all-linear" else [t.strip() for t in targets.split(",")]
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules=named)
    try:
        # Drawn from the seed, but not out of the run's own stream.
        with torch.random.fork_rng(devices=[]):
            found: nn.Module = get_peft_model(model, config)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            "policy.lora_targets", targets, f"does not fit the model ({reason})", "use all-linear"
        ) from error
    return found


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, the frozen weights alone compute."""
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "lora_A")]
    for layer in layers:
        # peft's own switch turns requires_grad off and on, which sharded parameters do not survive.
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False
