"""Who writes completions."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

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


class Engine(ABC):
    """Generates from the weights it was given last, and says which those are.

    Attributes:
        policy_version: the version of the weights; -1 before the first sync and within one.
        dtype: what it stores weights in; None is as they are given.
        resync: gives the current weights once more; None before :meth:`recover_with`.
        apart: it writes from another process, so that training need not wait for it.
    """

    policy_version: int = -1
    dtype: torch.dtype | None = None
    resync: Callable[[], None] | None = None
    apart: bool = False

    @abstractmethod
    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> SyncReport:
        """Take the policy's tensors; every parameter exactly once, or SyncError."""

    @abstractmethod
    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """Return for each prompt as many completions as it has seeds, in the same order."""

    @abstractmethod
    def replicas(self) -> Sequence[Engine]:
        """Return engines that each write with one copy of the weights; the sync check asks every one."""

    @abstractmethod
    def sleep(self) -> None:
        """Give memory back to the trainer until the next sync; no more is generated before it."""

    def recover_with(self, resync: Callable[[], None]) -> None:
        """Keep ``resync``, which gives the current weights once more, for when they are lost."""
        self.resync = resync

    @property
    def ranks_per_copy(self) -> int:
        """Return how many ranks hold one copy of the weights together, and must ask the same."""
        return 1

    @property
    def streams(self) -> bool:
        """Return whether :meth:`generate_streaming` may be used."""
        return False

    def generate_streaming(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seeds: Sequence[Sequence[int]],
        follow: Follow,
    ) -> None:
        """Tell ``follow`` of each prompt's completions as soon as they are there."""
        raise NotImplementedError

    def stream(self, model: nn.Module) -> Iterator[tuple[str, Tensor]] | None:
        """Return what the next sync is to deliver; None is every weight, with adapters merged."""
        return None

    def runs(self, model: nn.Module) -> bool:
        """Return whether it generates with this very module, so that a sync copies nothing."""
        return False


class EngineConfig:
    """What every ``rollout.engine`` answers before a model is loaded.

    Attributes:
        uses_trainer_model: it generates with a transformers module in the trainer's process; where
            parameters are sharded, with a whole copy.
        planned_as: the way of writing that nft-plan takes it for, see
            :mod:`nft_lightning.planning`; None cannot be planned.
    """

    uses_trainer_model: ClassVar[bool] = False
    planned_as: ClassVar[str | None] = None

    @property
    def copies_model(self) -> bool:
        """Return whether it is built over a whole copy of the policy, also where nothing is sharded."""
        return False

    def build(self, model: nn.Module, tokenizer: Any) -> Engine:
        """Return the engine for a policy like ``model``."""
        raise NotImplementedError

    def context_tokens(self) -> int | None:
        """Return the longest prompt and completion that it takes; None is the model's context."""
        return None

    def like_trainer(self, numbers: Numbers) -> EngineConfig:
        """Return this config with what it leaves to the trainer's precision filled in."""
        return self

    def check_model(self, config: Any, dtype: torch.dtype) -> None:
        """Raise UserError where it cannot run a model of this transformers config.

        Args:
            dtype: what the trainer's layers compute in.
        """

    def sends_adapters_alone(self) -> bool:
        """Return whether LoRA's matrices are sent by themselves, without the weights they adapt."""
        return False


class EngineError(RuntimeError):
    """The engine cannot continue; the message is one sentence for the person who runs it."""


class SyncError(EngineError):
    """The engine does not hold the trainer's weights."""


def completion_seed(run_seed: int, purpose: str, index: int, position: int, k: int) -> int:
    """Return the seed of completion ``k`` of the problem at ``position`` of rollout ``index``.

    A counter instead of a shared stream: samples do not depend on algorithm, batch or rank.
    """
    text = f"{run_seed}/{purpose}/{index}/{position}/{k}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
