"""Which rank of a run this process is, before Lightning says so: started by torchrun or by srun."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment


def rank() -> int:
    """Return this process's rank, 0 where it is the only one."""
    return int(os.environ.get("RANK") or (os.environ["SLURM_PROCID"] if by_srun() else 0))


def local_rank() -> int:
    """Return this process's rank among those of its host."""
    return int(os.environ.get("LOCAL_RANK") or (os.environ["SLURM_LOCALID"] if by_srun() else 0))


def world_size() -> int:
    """Return how many processes were started."""
    return by_torchrun() or int(os.environ["SLURM_NTASKS"] if by_srun() else 1)


def by_torchrun() -> int:
    """Return how many processes torchrun started, 0 where it did not."""
    return int(os.environ.get("WORLD_SIZE") or 0)


def by_srun() -> bool:
    """Return whether srun started this process as one of several, which Lightning then knows as well."""
    step = SLURMEnvironment.detect() and "SLURM_PROCID" in os.environ and "SLURM_STEP_ID" in os.environ
    return bool(step) and "RANK" not in os.environ


def started_by() -> ClusterEnvironment | None:
    """Return what Lightning knows of the launcher of this process: None where it is the only one."""
    if by_torchrun():
        return TorchElasticEnvironment()
    return SLURMEnvironment() if by_srun() else None
