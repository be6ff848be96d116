"""Who writes completions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from nft_lightning.types import Completion, Numbers, Sampling

Prompt = tuple[int, ...]


@dataclass(frozen=True)
class SyncReport:
    """What a weight transfer did; ``replicas``: copies of the weights that took it."""

    version: int
    tensors: int
    bytes: int
    seconds: float
    replicas: int = 1


class Engine(Protocol):
    """Generates from the weights it was given last, and says which those are."""

    policy_version: int

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> SyncReport:
        """Take the policy's tensors; every parameter exactly once, or SyncError."""
        ...

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """For each prompt as many completions as it has seeds, in the same order."""
        ...

    def replicas(self) -> Sequence[Engine]:
        """Engines that each write with one copy of the weights; the sync check asks every one."""
        ...

    def sleep(self) -> None:
        """Give memory back to the trainer until the next sync; no more is generated before it."""
        ...


class Follow(Protocol):
    """Told of a prompt's completions while others are still being written."""

    def __call__(
        self,
        index: int,
        completions: list[Completion],
        go_on: Callable[[Sequence[tuple[Prompt, Sequence[int]]]], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """Answer number ``index``, in the order in which prompts were asked.

        Either ``go_on`` with further prompts and their seeds, or ``fail``, must be called once, from
        any thread.
        """
        ...


class EngineError(RuntimeError):
    """The engine cannot go on; the message is one sentence for the person who runs it."""


class SyncError(EngineError):
    """The engine does not hold the trainer's weights."""


def completion_seed(run_seed: int, purpose: str, index: int, position: int, k: int) -> int:
    """Return the seed of completion ``k`` of the problem at ``position`` of rollout ``index``.

    A counter instead of a shared stream: samples do not depend on algorithm, batch or rank.
    """
    text = f"{run_seed}/{purpose}/{index}/{position}/{k}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def like_trainer(engine: Any, numbers: Numbers) -> Any:
    """Return the engine's config with what it leaves to the trainer's precision filled in."""
    fitted = getattr(engine, "like_trainer", None)
    return engine if fitted is None else fitted(numbers)
