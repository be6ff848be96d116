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
    kind = AdamWOnHost if plan.name == "adamw_cpu_offload" else torch.optim.AdamW
    return kind(groups, **options)


class AdamWOnHost(torch.optim.AdamW):
    """AdamW whose moments, and whose step, are the host's: 8 bytes a parameter less on the device.

    It holds a copy of each parameter, fetches the gradients when it steps and sends the parameters back.
    torchao has one that is quicker, because it fetches gradients during the backward pass: before they
    are clipped, and before the ranks have exchanged them.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], **options: Any) -> None:
        self.trained = [p for group in groups for p in group["params"]]
        copies = [
            {**group, "params": [p.detach().to("cpu", copy=True) for p in group["params"]]}
            for group in groups
        ]
        super().__init__(copies, **options)
        self.copies = [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """See :class:`torch.optim.AdamW`."""
        for parameter, copy in zip(self.trained, self.copies, strict=True):
            copy.grad = None if parameter.grad is None else parameter.grad.to("cpu")
            # Lightning moves the moments of a checkpoint to the device.
            moments = self.state[copy]
            moments.update({k: v.to("cpu") for k, v in moments.items() if isinstance(v, torch.Tensor)})
        found = super().step(closure)
        for parameter, copy in zip(self.trained, self.copies, strict=True):
            parameter.copy_(copy)
            copy.grad = None
        return found

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of the parameters in training."""
        for parameter in self.trained:
            parameter.grad = None
