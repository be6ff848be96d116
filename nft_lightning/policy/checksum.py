"""A number for the bytes of tensors: the same for any number of threads, on any device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from nft_lightning.distributed.shards import whole

CHUNK = 2**20
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(tensors: Iterable[tuple[str, Tensor]]) -> int:
    """Return 63 bits of the names, shapes, types and bytes of ``tensors``, in their order.

    Bytes are added as integers, modulo 2^64, so that neither threads nor the order of a sum matter:
    floats would differ in the last bit. Shards are gathered: a collective call.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors:
        full = whole(tensor.detach())
        digest.update(f"{name} {tuple(full.shape)} {full.dtype}".encode())
        for total in sums(full):
            digest.update(total.to_bytes(8, "big", signed=True))
    return int.from_bytes(digest.digest(), "big") >> 1


@torch.no_grad()
def sums(tensor: Tensor) -> list[int]:
    """Return the sum of the words of a tensor, and that with each word times its place."""
    plain = torch.zeros((), dtype=torch.int64, device=tensor.device)
    placed = torch.zeros_like(plain)
    for start, words in chunks(tensor):
        places = torch.arange(start + 1, start + 1 + len(words), device=words.device)
        plain += words.sum()
        # Odd factors lose no bit.
        placed += (words * (2 * places + 1)).sum()
    return torch.stack([plain, placed]).tolist()


def chunks(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield where each part begins, and the part [n] int64."""
    flat = tensor.contiguous().reshape(-1)
    if flat.dtype == torch.bool:
        flat = flat.to(torch.uint8)
    words = flat.view(WORDS.get(flat.element_size(), torch.uint8))
    for start in range(0, len(words), CHUNK):
        yield start, words[start : start + CHUNK].to(torch.int64)
