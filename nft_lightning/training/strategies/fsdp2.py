"""FSDP2: parameters, gradients and optimizer state cut over all ranks, with whole checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from nft_lightning.distributed.shards import on_host
from nft_lightning.policy.layers import decoder_layers
from nft_lightning.policy.policy import Policy
from nft_lightning.training.private_lightning import share_data_alone


class FullySharded(ModelParallelStrategy):
    """``trainer.strategy=fsdp2``: Lightning's strategy for ``fully_shard``, over every rank.

    Checkpoints are those of one process, written by the first rank, so that a run may go on with any
    number of processes. They need memory for the whole model and optimizer on the host, not the device.
    """

    shards_parameters = True

    def setup_environment(self) -> None:
        """All ranks share the data; none shares a tensor."""
        share_data_alone(self, self.num_nodes * self.num_processes)
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning hands the states to :meth:`load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return every tensor whole, on the host of the first rank; empty elsewhere."""
        assert self.lightning_module is not None
        return self.on_first(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """As :meth:`lightning_module_state_dict`."""
        return self.on_first(optimizer.state_dict())

    def on_first(self, state: dict[str, Any]) -> dict[str, Any]:
        """``state`` gathered tensor by tensor: a collective call."""
        found: dict[str, Any] = on_host(state, keep=self.is_global_zero)
        return found if self.is_global_zero else {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """By way of the trainer's ``CheckpointIO``."""
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """By way of the trainer's ``CheckpointIO``, on every rank."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Each rank keeps its part of every tensor."""
        assert self.lightning_module is not None
        own, given = self.lightning_module.state_dict(), checkpoint["state_dict"]
        parts = {name: cut(tensor, own.get(name)) for name, tensor in given.items()}
        self.lightning_module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each rank keeps its part of every moment."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            moments = {
                index: {
                    name: cut(value, parameters[index]) if isinstance(value, Tensor) else value
                    for name, value in values.items()
                }
                for index, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": moments})


def cut(tensor: Tensor, like: Tensor | None) -> Tensor:
    """This rank's part of ``tensor``, where ``like`` is sharded and of the same shape."""
    if isinstance(tensor, DTensor) or not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    moved = tensor.to(like.device)
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)


def shard(policy: Policy, mesh: Any, half: torch.dtype | None) -> None:
    """Shard each decoder layer and what is left, in place.

    The root is the policy and not its model: the head's weight is whole wherever ``policy`` runs,
    also where it is used without the model's own forward. Nothing stays gathered after a forward pass,
    so that parameters are always found sharded.

    Args:
        policy: gradients are averaged over the ranks, as with DDP.
        mesh: the ranks.
        half: what is computed in; the shards stay as they are. Gradients are summed in fp32.
    """
    mixed = MixedPrecisionPolicy(half, torch.float32)
    for layer in decoder_layers(policy.model):
        fully_shard(layer, mesh=mesh, mp_policy=mixed)
    fully_shard(policy, mesh=mesh, mp_policy=mixed, reshard_after_forward=True)


def shard_all(policy: Policy, others: Iterable[nn.Module | None], mesh: Any, precision: Any) -> None:
    """Shard the policy and ``others``: frozen policies alike, anything else in its own precision.

    Args:
        mesh: the strategy's mesh; ``precision``: the trainer's, of which ``bf16-mixed`` computes the
            policies in bf16.
    """
    ranks = mesh["data_parallel"]
    half = torch.bfloat16 if precision == "bf16-mixed" else None
    for module in (policy, *others):
        if isinstance(module, Policy):
            shard(module, ranks, half)
        elif module is not None:
            fully_shard(module, mesh=ranks, reshard_after_forward=True)
