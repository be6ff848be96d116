"""A callback that measures each update of a run: seconds, tokens and peak memory of every rank."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch


class Watch(L.Callback):
    """Writes ``watch/rank_N.json`` in the run folder, anew at each start of a run.

    An update is a training step: its forward and backward passes, clipping and the optimizer's step.
    On a GPU the peaks are those of torch's allocator within it; on a CPU the process's since it began.
    """

    def __init__(self) -> None:
        self.updates: list[dict[str, float]] = []
        self.started = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is on the device."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The weights are new."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self.started
        tokens = sum(int(micro.attention_mask.sum()) for micro in batch.micro_batches)
        self.updates.append({"seconds": seconds, "tokens": tokens, **peaks(pl_module.device)})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """All that was seen, and how many completions the engine was asked for and made as stored."""
        engine: Any = trainer.datamodule.engine  # type: ignore[attr-defined]
        path = Path(trainer.default_root_dir) / "watch" / f"rank_{trainer.global_rank}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {"updates": self.updates, "stored": getattr(engine, "agreement", None)}
        path.write_text(json.dumps(found) + "\n")


def peaks(device: torch.device) -> dict[str, float]:
    """Bytes."""
    if device.type == "cuda":
        return {
            "allocated_bytes": torch.cuda.max_memory_allocated(),
            "reserved_bytes": torch.cuda.max_memory_reserved(),
        }
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"allocated_bytes": size, "reserved_bytes": size}
