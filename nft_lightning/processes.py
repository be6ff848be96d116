"""Which process of a run this is, before Lightning says so: started by torchrun or by SLURM's srun."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment


def rank() -> int:
    """This process among all, 0 where it is alone."""
    return int(os.environ.get("RANK") or (os.environ["SLURM_PROCID"] if by_srun() else 0))


def world_size() -> int:
    """How many processes were started."""
    return by_torchrun() or int(os.environ["SLURM_NTASKS"] if by_srun() else 1)


def by_torchrun() -> int:
    """How many processes torchrun started, 0 where it did not."""
    return int(os.environ.get("WORLD_SIZE") or 0)


def by_srun() -> bool:
    """Whether srun started this process as one of several, which Lightning then knows as well."""
    step = SLURMEnvironment.detect() and "SLURM_PROCID" in os.environ and "SLURM_STEP_ID" in os.environ
    return bool(step) and "RANK" not in os.environ
