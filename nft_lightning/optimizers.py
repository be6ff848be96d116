"""Optimizers by name: AdamW, and the forms of it that need less memory on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nft_lightning.plans import OptimizerPlan


def built_optimizer(plan: OptimizerPlan, parts: Sequence[nn.Module], rates: Sequence[float]) -> Any:
    """AdamW over what trains of each of ``parts``, whose full rate its groups keep as ``full_rate``."""
    groups = [
        {"params": [p for p in part.parameters() if p.requires_grad], "lr": rate, "full_rate": rate}
        for part, rate in zip(parts, rates, strict=True)
    ]
    options: dict[str, Any] = {
        "lr": plan.learning_rate,
        "betas": (plan.beta1, plan.beta2),
        "weight_decay": plan.weight_decay,
    }
    if plan.name in ("adamw_8bit", "adamw_paged_8bit"):
        import bitsandbytes

        paged = plan.name == "adamw_paged_8bit"
        kind = bitsandbytes.optim.PagedAdamW8bit if paged else bitsandbytes.optim.AdamW8bit
        return kind(groups, **options)
    if plan.name == "adamw_cpu_offload":
        from torchao.optim import CPUOffloadOptimizer

        return CPUOffloadOptimizer(groups, torch.optim.AdamW, fused=True, **options)
    return torch.optim.AdamW(groups, **options)
