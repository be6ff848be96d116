"""A check that all ranks hold one policy."""

from __future__ import annotations

from torch import nn
from torch.distributed.tensor import DTensor

from nft_lightning.distributed.ranks import gather_objects, several
from nft_lightning.errors import RunStoppedError
from nft_lightning.policy.checksum import checksum


def check_equal_weights(module: nn.Module) -> None:
    """Compare a checksum of what every rank should hold whole: parameters and buffers that are not cut.

    A collective call. What FSDP2 or ZeRO 3 cut over the ranks exists once and cannot differ.

    Raises:
        RunStoppedError: two ranks hold different weights.
    """
    if not several():
        return
    state = [*module.named_parameters(), *module.named_buffers()]
    whole = [(n, t) for n, t in state if not isinstance(t, DTensor) and not hasattr(t, "ds_id")]
    sums = gather_objects(checksum(whole))
    others = [rank for rank, found in enumerate(sums) if found != sums[0]]
    if others:
        raise RunStoppedError(
            f"rank {others[0]} holds other weights than rank 0, so that the ranks do not train one "
            "policy; resume continues from the last checkpoint"
        )
