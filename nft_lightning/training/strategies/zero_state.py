"""The state of ZeRO's optimizer as one process would have it, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nft_lightning.distributed.private_deepspeed import fragment_of
from nft_lightning.training.optimizer import MASTER

MOMENTS = ("exp_avg", "exp_avg_sq")


def whole_optimizer(
    optimizer: Any, groups: Sequence[Sequence[nn.Parameter]], *, keep: bool
) -> dict[str, Any]:
    """AdamW's state, moments gathered on the host parameter by parameter: a collective call.

    Args:
        optimizer: DeepSpeed's.
        groups: the parameters of each group, in order.
        keep: whether this rank wants it; otherwise it is empty.
    """
    inner = optimizer.optimizer
    steps = [s["step"] for s in inner.state.values() if "step" in s]
    state: dict[int, dict[str, Tensor]] = {}
    numbered: list[dict[str, Any]] = []
    for parameters, group in zip(groups, inner.param_groups, strict=True):
        first = sum(len(g["params"]) for g in numbered)
        numbered.append({**group, "params": list(range(first, first + len(parameters)))})
        for index, parameter in enumerate(parameters if steps else (), first):
            found = {key: whole_wide(optimizer, parameter, key) for key in MOMENTS}
            if parameter.dtype != torch.float32:
                found[MASTER] = whole_wide(optimizer, parameter, None)
            if keep:
                state[index] = {k: v.to("cpu", copy=True) for k, v in found.items()}
                state[index]["step"] = steps[0].detach().to("cpu", copy=True)
    return {"state": state, "param_groups": numbered} if keep else {}


def load_optimizer(
    optimizer: Any, groups: Sequence[Sequence[nn.Parameter]], given: Mapping[str, Any]
) -> None:
    """The other way: each rank keeps its part."""
    inner, state = optimizer.optimizer, given["state"]
    for own, saved in zip(inner.param_groups, given["param_groups"], strict=True):
        own.update({key: value for key, value in saved.items() if key != "params"})
    if not state:
        return
    step = next(iter(state.values()))["step"]
    for flat in flat_masters(optimizer):
        moments = {key: torch.zeros_like(flat) for key in MOMENTS}
        inner.state[flat] = {"step": step.clone(), **moments}
    parameters = [parameter for group in groups for parameter in group]
    for index, parameter in enumerate(parameters):
        for key in MOMENTS:
            load_wide(optimizer, parameter, state[index][key], key)
        if MASTER in state[index]:
            load_wide(optimizer, parameter, state[index][MASTER], None)


def flat_masters(optimizer: Any) -> Sequence[Tensor]:
    """This rank's fp32 partitions, which the inner optimizer steps on."""
    found: Sequence[Tensor] | None = getattr(optimizer, "fp32_partitioned_groups_flat", None)
    return optimizer.single_partition_of_fp32_groups if found is None else found


def whole_wide(optimizer: Any, parameter: Any, key: str | None) -> Tensor:
    """Return a moment, or the fp32 master where ``key`` is None, of all ranks: a collective call."""
    if hasattr(parameter, "ds_id"):
        found: Tensor = optimizer.get_full_hp_param(parameter, key)
        return found
    buffer = torch.zeros(parameter.numel(), dtype=torch.float32, device=parameter.device)
    if (mapping := fragment_of(parameter)) is not None:
        lies = mapping.lp_fragment_address
        buffer.narrow(0, lies.start, lies.numel).copy_(fragment(optimizer, parameter, key))
    torch.distributed.all_reduce(buffer)
    return buffer.view_as(parameter)


def load_wide(optimizer: Any, parameter: Any, value: Tensor, key: str | None) -> None:
    """The other way: each rank keeps its part."""
    if hasattr(parameter, "ds_id"):
        part = part_of(parameter, value.to(parameter.device))
        optimizer.set_local_hp_param(part, parameter, key)
    elif (mapping := fragment_of(parameter)) is not None:
        lies = mapping.lp_fragment_address
        part = value.flatten().narrow(0, lies.start, lies.numel)
        fragment(optimizer, parameter, key).copy_(part)


def fragment(optimizer: Any, parameter: Any, key: str | None) -> Tensor:
    """This rank's part under stage 2. DeepSpeed's own view of it lacks all groups but the first."""
    mapping = fragment_of(parameter)
    flat = flat_masters(optimizer)[mapping.param_group_index]
    wide: Tensor = flat.data if key is None else optimizer.optimizer.state[flat][key]
    lies = mapping.hp_fragment_address
    return wide.narrow(0, lies.start, lies.numel)


def load_tensor(own: Any, value: Tensor) -> None:
    """The weights themselves; a partitioned parameter that does not train keeps its own."""
    with torch.no_grad():
        if hasattr(own, "ds_id") and value.shape == own.ds_shape:
            own.ds_tensor.copy_(part_of(own, value))
        if own.shape == value.shape:
            own.copy_(value)


def part_of(parameter: Any, value: Tensor) -> Tensor:
    """This rank's partition of ``value``, flat, the last one filled up with zeros."""
    size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank()
    flat = value.flatten()[rank * size : (rank + 1) * size]
    return nn.functional.pad(flat, (0, size - flat.numel()))
