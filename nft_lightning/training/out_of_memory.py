"""A step that does not fit into memory begins again with smaller micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nft_lightning.batching.split import out_of_memory, split_micro_batches
from nft_lightning.errors import RunStoppedError
from nft_lightning.types import TokenBatch


def split_until_it_fits(
    micro_batches: Sequence[TokenBatch],
    attempt: Callable[[Sequence[TokenBatch]], None],
    begin_again: Callable[[], None] | None,
) -> None:
    """Run ``attempt``, with each micro-batch in two parts as often as memory does not suffice.

    Args:
        attempt: computes the gradient of all micro-batches.
        begin_again: undoes an attempt that broke off; None where that cannot be done.

    Raises:
        RunStoppedError: memory does not hold the smallest micro-batches.
    """
    while (error := memory_error(micro_batches, attempt)) is not None:
        smaller = split_micro_batches(micro_batches)
        if len(smaller) == len(micro_batches) or begin_again is None:
            raise RunStoppedError(
                f"memory does not hold a micro-batch of {len(micro_batches[0].mask)} rows "
                f"({error}); use a smaller batching.max_tokens_per_micro_batch"
            )
        micro_batches = smaller
        begin_again()


def memory_error(
    micro_batches: Sequence[TokenBatch], attempt: Callable[[Sequence[TokenBatch]], None]
) -> str | None:
    """Return what the allocator said where memory did not suffice for ``attempt``; else None."""
    try:
        attempt(micro_batches)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        message = str(error).strip().splitlines()[0] if str(error) else "out of memory"
    else:
        return None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return message
