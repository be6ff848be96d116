"""A callback that writes down what each rank of a run holds at its end."""

from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import torch.distributed as dist

from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.policy.checksum import checksum


def elements(model):
    """How many numbers one worker of vLLM holds."""
    return sum(p.numel() for p in model.parameters())


class Note(L.Callback):
    """Writes ``rank_R.json``: the group's size, a checksum of the policy, vLLM's share of it, if any."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer, pl_module):
        # A collective call where parameters are sharded.
        whole = checksum(
            (name, tensor.detach()) for name, tensor in full_tensors(pl_module.policy.model)
        )
        llm = getattr(trainer.datamodule.engine, "llm", None)
        (held,) = [None] if llm is None else llm.apply_model(elements)
        found = {
            "world_size": dist.get_world_size() if dist.is_initialized() else 1,
            "checksum": whole,
            "held": held,
        }
        (self.folder / f"rank_{trainer.global_rank}.json").write_text(json.dumps(found))
