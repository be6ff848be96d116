"""Runs of several ranks: one that nobody disturbs, one that is asked to leave and continues."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from nft_lightning.app import run as running
from nft_lightning.distributed.processes import rank, world_size
from tests.resume.conftest import brief
from tests.resume.leave import leave_at, watched_places

# Between two of these, the run has been continued from the checkpoint that the first one left.
PLACES = (
    "epoch 0 generate",
    "epoch 0 after 0",
    "epoch 0 after 2",
    "epoch 1 generate",
    "epoch 1 old_logprobs",
    "epoch 1 after 1",
    "epoch 1 evaluation fit",
)


def main(parent: Path, overrides: list[str]) -> None:
    """Signals come to the last rank only, as when somebody ends one of the processes."""
    common = [*overrides, f"trainer.devices={world_size()}", "trainer.max_epochs=2", "resume=auto"]
    running.run(brief(*common, f"run_dir={parent / 'whole'}"))
    cut = brief(*common, f"run_dir={parent / 'cut'}")
    with watched_places():
        for place in PLACES:
            left = leave_at(cut, place, here=rank() == world_size() - 1)
            assert left.exit_code == 75
    running.run(cut)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:])
