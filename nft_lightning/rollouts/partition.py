"""A rollout's problems shared out over the ranks, and their groups gathered on every rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.distributed as dist

from nft_lightning.distributed.ranks import gather_or_raise, several
from nft_lightning.engines.base import Engine, Prompt
from nft_lightning.types import Group


def engine_copies(engine: Engine) -> tuple[int, int]:
    """(this rank's copy of the engine's weights, copies in all): ranks of one copy ask the same."""
    if not several():
        return 0, 1
    together = engine.ranks_per_copy
    return dist.get_rank() // together, dist.get_world_size() // together


def share(prompts: Sequence[Prompt], place: int, shares: int) -> list[int]:
    """Return the indices that fall to share number ``place``: prompts assigned in the order of length.

    Shares differ by one prompt at most, and by less than the longest prompt in tokens; where there
    are fewer prompts than shares, some are empty.
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    return sorted(order[place::shares])


def generate_and_gather(
    engine: Engine, prompts: Sequence[Prompt], write: Callable[[list[int]], list[Group]]
) -> list[Group]:
    """Return a group for each prompt, on every rank: each writes its share, and one gather follows.

    ``write`` takes the indices of a share; what it raises on one rank is raised on all.
    """
    place, shares = engine_copies(engine)
    parts = gather_or_raise(lambda: write(share(prompts, place, shares)))
    together = len(parts) // shares
    found: dict[int, Group] = {}
    for number in range(shares):
        indices = share(prompts, number, shares)
        found.update(zip(indices, parts[number * together], strict=True))
    return [found[i] for i in range(len(prompts))]
