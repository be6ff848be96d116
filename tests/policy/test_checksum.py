"""Checksums of bytes: the same for any number of threads, another for any other weights."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nft_lightning.policy import checksum as module
from nft_lightning.policy.checksum import checksum


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(300, 41, generator=generator)
    return [("a", made.to(dtype)), ("b", made[0].to(dtype))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_the_last_bit_of_one_element_counts(dtype):
    named = tensors(dtype)
    before = checksum(named)
    assert checksum(tensors(dtype)) == before
    assert 0 <= before < 2**63
    flat = named[0][1].view(torch.uint8).reshape(-1)
    flat[1000] ^= 1
    assert checksum(named) != before


def test_order_names_shapes_and_signs_count():
    (a, first), (b, second) = tensors()
    known = checksum([(a, first), (b, second)])
    swapped = first.clone()
    swapped[[3, 4]] = swapped[[4, 3]]
    others = [
        [(a, swapped), (b, second)],
        [(b, first), (a, second)],
        [(a, first.T), (b, second)],
        [(a, first.reshape(41, 300)), (b, second)],
        [(a, -first), (b, second)],
        [(a, first)],
        [],
    ]
    found = [checksum(other) for other in others]
    assert len({known, *found}) == 1 + len(others)


def test_chunks_and_strides_do_not_count(monkeypatch):
    known = checksum(tensors())
    monkeypatch.setattr(module, "CHUNK", 1000)
    assert checksum(tensors()) == known
    assert checksum([(n, t.T.contiguous().T if t.ndim == 2 else t) for n, t in tensors()]) == known


def test_threads_do_not_count():
    code = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[1]));"
        "from nft_lightning.policy.checksum import checksum;"
        "g = torch.Generator().manual_seed(0);"
        "print(checksum([('w', torch.randn(2_000_003, generator=g))]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, threads], capture_output=True, text=True, check=True
        ).stdout
        for threads in ("1", "3")
    }
    assert len(found) == 1
