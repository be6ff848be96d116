"""Optimizers by name: AdamW on fp32 numbers, and the forms of it that need less memory on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nft_lightning.distributed.shards import shape_of
from nft_lightning.training.config import OptimizerConfig

MASTER = "master"
PARTS = ("policy", "critic", "critic_trunk")


def built_optimizer(
    config: OptimizerConfig, parts: Sequence[nn.Module], rates: Sequence[float], masters: bool = True
) -> Any:
    """Return the optimizer over what trains of each of ``parts``, each with its rate.

    ``masters`` is False where the strategy keeps those of narrower parameters itself.
    """
    groups = parameter_groups(config, parts, rates)
    if config.custom is not None:
        return config.custom(groups)
    options: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (config.beta1, config.beta2),
        "eps": config.epsilon,
        "weight_decay": config.weight_decay,
    }
    if config.name in ("adamw_8bit", "adamw_paged_8bit"):
        from bitsandbytes.optim import adamw

        paged = config.name == "adamw_paged_8bit"
        kind = adamw.PagedAdamW8bit if paged else adamw.AdamW8bit
        return kind(groups, **options)
    if not masters:
        return torch.optim.AdamW(groups, **options)
    return MasterAdamW(groups, on_host=config.name == "adamw_cpu_offload", **options)


def parameter_groups(
    config: OptimizerConfig, parts: Sequence[nn.Module], rates: Sequence[float]
) -> list[dict[str, Any]]:
    """Return two groups of each part: matrices, and the vectors of norms and biases, without decay."""
    groups: list[dict[str, Any]] = []
    for name, part, rate in zip(PARTS, parts, rates, strict=False):
        trained = [p for p in part.parameters() if p.requires_grad]
        matrices = [p for p in trained if len(shape_of(p)) > 1]
        vectors = [p for p in trained if len(shape_of(p)) <= 1]
        decayed = {"name": name, "params": matrices, "lr": rate, "weight_decay": config.weight_decay}
        plain = {"name": f"{name}_no_decay", "params": vectors, "lr": rate, "weight_decay": 0.0}
        # LoRA trains no vectors, and strategies do not take an empty group.
        groups += [group for group in (decayed, plain) if group["params"]]
    return groups


def tiny_weights() -> list[nn.Module]:
    """Return one part with a matrix and a vector, and their gradients, to try an optimizer on."""
    weights = nn.ParameterList([torch.ones(2, 2), torch.ones(2)])
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    return [weights]


class MasterAdamW(torch.optim.AdamW):
    """AdamW that steps on fp32 masters of narrower parameters and rounds them back.

    bf16 would lose a step below 1/256 of a weight, as most are (arXiv 1710.03740, section 3.1). Moments
    are fp32 as well; parameters of 32 bits or more are their own masters. Checkpoints hold the masters.

    With ``on_host`` masters, moments and step are the host's: 8 or 12 bytes a number less on the device.
    torchao has an offload that is quicker, because it fetches gradients during the backward pass: before
    they are clipped, and before the ranks have exchanged them.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, on_host: bool = False, **options: Any
    ) -> None:
        self.on_host = on_host
        self.trained = [p for group in groups for p in group["params"]]
        held = [{**group, "params": [self.master_of(p) for p in group["params"]]} for group in groups]
        super().__init__(held, **options)
        self.masters = [p for group in self.param_groups for p in group["params"]]
        self.copies = [(p, m) for p, m in zip(self.trained, self.masters, strict=True) if m is not p]

    def master_of(self, parameter: Tensor) -> Tensor:
        """Return what is stepped on in its place; a shard's is a shard."""
        dtype = wide(parameter)
        if parameter.dtype == dtype and not self.on_host:
            return parameter
        device = torch.device("cpu") if self.on_host else parameter.device
        return parameter.detach().to(device, dtype, copy=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """See :class:`torch.optim.AdamW`. Gradients of parameters that have a copy are used up."""
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        for parameter, master in self.copies:
            if parameter.grad is not None:
                master.grad = parameter.grad.to(master.device).to(master.dtype)
                parameter.grad = None
            if self.on_host:
                # Lightning moves the moments of a checkpoint to the device.
                moments = self.state[master]
                moments.update({k: v.to("cpu") for k, v in moments.items() if isinstance(v, Tensor)})
        super().step()
        for parameter, master in self.copies:
            parameter.copy_(master)
            master.grad = None
        return found

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of the parameters in training."""
        for parameter in self.trained:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Torch's, with masters among the moments of narrower parameters that have been stepped on."""
        found = super().state_dict()
        for index, (parameter, master) in enumerate(zip(self.trained, self.masters, strict=True)):
            if parameter.dtype != master.dtype and index in found["state"]:
                found["state"][index] = {**found["state"][index], MASTER: master}
        return found

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over moments and masters; the parameters hold the same checkpoint's weights already."""
        super().load_state_dict(state_dict)
        for parameter, master in self.copies:
            master.copy_(self.state[master].pop(MASTER, parameter))


def wide(parameter: Tensor) -> torch.dtype:
    """Return the type that its steps are made in: its own, fp32 at least."""
    return torch.promote_types(parameter.dtype, torch.float32)
