"""float64, which sums of many numbers need and Apple's GPUs do not have: theirs are made on the host."""

from __future__ import annotations

import torch
from torch import Tensor

WITHOUT_FLOAT64 = ("mps",)


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 where ``device`` has no wider type."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def exact(tensor: Tensor) -> Tensor:
    """Return a copy in float64 on the host, without gradient; it is moved before it is widened."""
    return tensor.detach().cpu().double()


def wide(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in float64 without gradient, where it is; on the host if its device has none."""
    if widest(tensor.device) == torch.float64:
        return tensor.detach().double()
    return exact(tensor)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``, in float32 if it is float64 and the device has none."""
    wide = tensor.dtype == torch.float64
    return tensor.to(device, widest(device) if wide else tensor.dtype)
