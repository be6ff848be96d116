"""What a step asks of the strategy: what it cuts, when gradients are exchanged, who has masters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import lightning as L
from torch.nn.parallel import DistributedDataParallel

from nft_lightning.training.strategies.fsdp2 import FullySharded
from nft_lightning.training.strategies.zero import ZeRO


@contextmanager
def micro_batch(trainer: L.Trainer, last: bool) -> Iterator[None]:
    """Around forward and backward; under DDP, ranks exchange gradients in the ``last`` of a step only.

    FSDP2 and ZeRO exchange them in every one: whole gradients would have to be kept until then.
    """
    if isinstance(trainer.strategy, ZeRO):
        trainer.strategy.begin_micro_batch(last)
    model = trainer.model
    skip = not last and isinstance(model, DistributedDataParallel)
    with model.no_sync() if skip else nullcontext():  # type: ignore[union-attr,operator]
        yield


def has_masters(trainer: L.Trainer) -> bool:
    """Return whether the strategy keeps fp32 masters itself, under the optimizer."""
    return isinstance(trainer.strategy, ZeRO)


def leave_out(trainer: L.Trainer) -> None:
    """Forget the gradient that has been added up."""
    if isinstance(trainer.strategy, ZeRO):
        trainer.strategy.discard_gradients()


def shards_parameters(trainer: L.Trainer) -> bool:
    """Return whether no rank has a whole parameter."""
    return isinstance(trainer.strategy, FullySharded | ZeRO) and trainer.strategy.shards_parameters


def cuts_gradients(trainer: L.Trainer) -> bool:
    """Return whether gradients lie in parts on the ranks."""
    return isinstance(trainer.strategy, FullySharded | ZeRO)


def can_begin_again(trainer: L.Trainer) -> bool:
    """Return whether a step that broke off leaves nothing behind: in other ranks, or in ZeRO's sums."""
    return trainer.world_size == 1 and not isinstance(trainer.strategy, ZeRO)
