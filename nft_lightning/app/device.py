"""The device that a model is on."""

from __future__ import annotations

from typing import Any

from nft_lightning.distributed.processes import local_rank
from nft_lightning.errors import UserError, first_line


def usable_device(field: str, name: str) -> Any:
    """Return the torch device; ``auto`` is this process's own GPU where there is one, else the CPU.

    Raises:
        UserError: torch does not have it; ``field`` is the option that named it.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank()}"
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise UserError(field, name, f"cannot be used ({reason})", "use cpu") from error
