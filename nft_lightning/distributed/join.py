"""The ranks of a run meet, before anything else in the process can form a group of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from nft_lightning.distributed.processes import local_rank, rank, started_by, world_size
from nft_lightning.errors import RunStoppedError


def join(device: torch.device) -> None:
    """Make the group of all ranks that a launcher started; nothing where this process is the only one.

    Call it before an engine is built: vLLM makes a group of one rank where it finds none, and Lightning
    then takes that group for the run's.

    Args:
        device: where this rank's tensors are, which decides between NCCL and gloo.

    Raises:
        RunStoppedError: the process belongs to a group of another size.
    """
    environment = started_by()
    if environment is None or world_size() == 1:
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        os.environ["MASTER_ADDR"] = environment.main_address
        os.environ["MASTER_PORT"] = str(environment.main_port)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank(), world_size=world_size())
    check_world(world_size())


def check_world(expected: int) -> None:
    """Raise RunStoppedError unless the process group is as large as the run.

    Ranks in groups of their own would each train a policy of their own.
    """
    found = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if found != expected:
        raise RunStoppedError(
            f"this process is in a group of {found} where the run has {expected} ranks, so that each "
            "would train a policy of its own; start all of them by one launcher, which nft-train does "
            "itself where trainer.devices asks for several"
        )


@contextmanager
def torchrun_variables() -> Iterator[None]:
    """Set the variables of torchrun, which libraries read, also where srun started this process."""
    wanted = {"RANK": rank(), "LOCAL_RANK": local_rank(), "WORLD_SIZE": world_size()}
    missing = [name for name in wanted if name not in os.environ]
    os.environ.update({name: str(wanted[name]) for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
