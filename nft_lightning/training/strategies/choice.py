"""Strategies by the names of ``trainer.strategy``: those that are ours, and Lightning's."""

from __future__ import annotations

from typing import Any

from nft_lightning.training.strategies.fsdp2 import FullySharded
from nft_lightning.training.strategies.zero import ZeRO

FSDP2, ZERO_2, ZERO_3 = "fsdp2", "deepspeed_stage_2", "deepspeed_stage_3"
# Gradients and optimizer state are in parts on the ranks.
CUT = (FSDP2, ZERO_2, ZERO_3)
# Parameters as well.
PARAMETERS_CUT = (FSDP2, ZERO_3)


def strategy_of(name: Any) -> Any:
    """Return what Lightning's trainer takes for ``name``."""
    if name == FSDP2:
        return FullySharded()
    if name in (ZERO_2, ZERO_3):
        return ZeRO(stage=2 if name == ZERO_2 else 3)
    return name
