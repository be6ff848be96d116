"""The engine of ``rollout=hf`` in a process of its own, which writes while the trainer trains."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from nft_lightning.distributed.launch import end_with_the_parent
from nft_lightning.distributed.ranks import sendable
from nft_lightning.engines.base import Engine, EngineError, Prompt, SyncReport
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.types import Completion, Sampling


class OwnProcess(Engine):
    """Samples from a copy of the policy that it shares with a process of its own.

    A sync writes into the shared copy, so the other process has the weights at once. Nothing may be
    synced while something is being written.

    Args:
        model: a copy that is nobody else's; its parameters move to shared memory.
        tokenizer, max_rows: see :class:`nft_lightning.engines.hf.engine.HFEngine`.
        threads: of torch in the other process.
    """

    apart = True

    def __init__(self, model: nn.Module, tokenizer: Any, max_rows: int, threads: int) -> None:
        self.holder = HFEngine(model.share_memory(), tokenizer, max_rows)
        self.policy_version = -1
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, model, tokenizer, max_rows, threads), daemon=True
        )
        self.process.start()
        theirs.close()
        # It ends with this object, and before the interpreter would wait for it.
        self.end = weakref.finalize(self, kill, self.process)
        atexit.register(self.end)

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> SyncReport:
        """Copy the tensors into the shared memory; see :class:`nft_lightning.engines.base.Engine`."""
        self.policy_version = -1
        report = self.holder.load_weights(named_tensors, version)
        self.policy_version = version
        return report

    def replicas(self) -> list[OwnProcess]:
        """Return one copy of the weights."""
        return [self]

    def sleep(self) -> None:
        """Nothing to give back: its memory is its own."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """Ask the other process.

        Raises:
            EngineError: it has ended.
        """
        try:
            self.pipe.send((prompts, sampling, seeds, self.policy_version))
            answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(1.0)
            raise EngineError(
                f"the engine's process has ended with exit code {self.process.exitcode}; "
                "its messages are above, and resume continues from the last checkpoint"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        completions: list[list[Completion]] = answer
        return completions


def kill(process: BaseProcess) -> None:
    """End the process, which has nothing to lose."""
    process.kill()
    process.join()


def serve(pipe: Connection, model: nn.Module, tokenizer: Any, max_rows: int, threads: int) -> None:
    """Write completions until the other end of ``pipe`` is closed."""
    end_with_the_parent()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # the trainer decides when this process ends
    torch.set_num_threads(threads)
    engine = HFEngine(model, tokenizer, max_rows)
    while True:
        try:
            prompts, sampling, seeds, version = pipe.recv()
        except EOFError:
            return
        engine.policy_version = version
        try:
            answer: Any = engine.generate(prompts, sampling, seeds)
        except Exception as error:
            answer = sendable(error)
        pipe.send(answer)
