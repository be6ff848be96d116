"""An integer that tells whether two sets of tensors hold the same bytes, on any number of threads."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor

CHUNK = 2**22
ODD = 0x5851F42D4C957F2D
WORD = 2**64


def checksum(tensors: Iterable[tuple[str, Tensor]]) -> int:
    """Return a 64-bit checksum of names, shapes, types and bytes.

    A sum of integers that wraps around does not depend on the order in which it is added up, so that the
    result is the same on every device and with any number of threads, where a sum of floats is not.

    Args:
        tensors: names and tensors of any shape, each whole on this rank.
    """
    found = 0
    for name, tensor in tensors:
        about = f"{name}/{tuple(tensor.shape)}/{tensor.dtype}"
        found = (found * ODD + zlib.crc32(about.encode())) % WORD
        found = (found * ODD + checksum_of_bytes(tensor)) % WORD
    return found


def checksum_of_bytes(tensor: Tensor) -> int:
    """Return the sum, modulo 2**64, of a tensor's words, each times an odd number of its place."""
    flat = words(tensor)
    total = 0
    for start in range(0, flat.numel(), CHUNK):
        part = flat[start : start + CHUNK].to(torch.int64)
        place = torch.arange(start, start + part.numel(), device=part.device)
        total += int((part * (2 * place + 1)).sum())
    return total % WORD


def words(tensor: Tensor) -> Tensor:
    """Return the tensor's bytes as a flat tensor of the widest integers that divide them evenly."""
    flat = tensor.detach().contiguous().flatten()
    start = flat.storage_offset() * flat.element_size()
    size = flat.numel() * flat.element_size()
    for dtype in (torch.int64, torch.int32, torch.int16):
        aligned = start % dtype.itemsize == 0 and size % dtype.itemsize == 0
        if aligned and flat.element_size() <= dtype.itemsize:
            return flat.view(dtype)
    return flat.view(torch.uint8)
