"""Runs that torchrun starts: each meets a server that fails in the middle of a weight sync."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from nft_lightning.app import run as running
from nft_lightning.distributed.processes import rank, world_size
from nft_lightning.engines.base import EngineError
from tests.resume.conftest import brief


def main(parent: Path, strategy: str, addresses: list[str]) -> None:
    """Every rank writes what ended each run, and after how many seconds."""
    for i, address in enumerate(addresses):
        cfg = brief(
            f"trainer={strategy}",
            f"trainer.devices={world_size()}",
            "rollout=vllm_server",
            f"rollout.engine.addresses=[{address}]",
            "rollout.engine.request_timeout_seconds=4",
            "rollout.engine.wait_for_server_seconds=1",
            "rollout.engine.transfer_chunk_mib=1",
            f"run_dir={parent / str(i)}",
        )
        started = time.monotonic()
        try:
            running.run(cfg)
        except EngineError as error:
            told = f"{type(error).__name__} after {time.monotonic() - started:.0f} s: {error}"
            (parent / f"{i}_{rank()}.txt").write_text(told)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
