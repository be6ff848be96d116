"""Private names of Lightning's, which no other file touches."""

from __future__ import annotations

from typing import Any

import lightning as L

# The key of the batches that had their update, in the state of Lightning's epoch loop.
STEPPED = "_batches_that_stepped"


def batches_stepped(trainer: L.Trainer) -> int:
    """Return how many batches had their update, which is the step that Lightning's loggers show."""
    found: int = getattr(trainer.fit_loop.epoch_loop, STEPPED)
    return found


def share_data_alone(strategy: Any, ranks: int) -> None:
    """Let a ModelParallelStrategy divide the data over all ``ranks`` and no tensor by itself."""
    strategy._data_parallel_size = ranks
    strategy._tensor_parallel_size = 1


def before_step(precision: Any, module: L.LightningModule, optimizer: Any) -> None:
    """Call the hooks that wait for an optimizer's step."""
    precision._after_closure(module, optimizer)
