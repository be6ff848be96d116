"""Signals that ask a run to end: at once where nothing would be lost, else at the next safe point."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
EXIT_PREEMPTED = 75
"""EX_TEMPFAIL: the run was asked to leave, and continues with ``resume``."""
EXIT_INTERRUPTED = 130


class Preempted(BaseException):
    """The run was asked to leave. Not an Exception, so that nobody takes it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.checkpoint: str | None = None

    def __reduce__(self) -> tuple[type[Preempted], tuple[int]]:
        """To another rank."""
        return Preempted, (self.signum,)

    @property
    def exit_code(self) -> int:
        """As documented: 75, or 130 after Ctrl-C."""
        return EXIT_INTERRUPTED if self.signum == signal.SIGINT else EXIT_PREEMPTED


class PreemptionHandler:
    """Remembers the first signal; the second Ctrl-C ends the process on the spot.

    Attributes:
        largest: see :meth:`leave_together`; None where there is one rank.
    """

    listening: PreemptionHandler | None = None

    def __init__(self) -> None:
        self.received: int | None = None
        self.idle = False
        self.largest: Callable[[int], int] | None = None
        self.before: dict[int, Any] = {}

    def leave_together(self, largest: Callable[[int], int]) -> None:
        """Leave at the same safe point as the other ranks: none may leave while others wait for it.

        Args:
            largest: the largest of what every rank gives, a collective call.
        """
        self.largest = largest

    def install(self) -> None:
        """Listen, in the main thread only; also again after somebody else took the handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        PreemptionHandler.listening = self
        for signum in ASKING:
            current = signal.getsignal(signum)
            if current != self.handle:
                self.before.setdefault(signum, current)
                signal.signal(signum, self.handle)

    def restore(self) -> None:
        """Put back what was there."""
        PreemptionHandler.listening = None
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        self.before = {}

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Called by Python between two instructions of the main thread."""
        if self.received == signal.SIGINT and signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self.received = self.received or signum
        if self.idle:
            self.idle = False
            raise Preempted(self.received)

    def check(self) -> None:
        """Leave at this safe point if this or another rank was asked to."""
        asked = self.received or 0
        if self.largest is not None:
            asked = self.largest(asked)
        if asked:
            raise Preempted(asked)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Leave the moment one is asked to: inside, nothing is changed that a checkpoint holds.

        With several ranks only where :func:`at_once` says so.
        """
        self.check()
        with nullcontext() if self.largest is not None else self.leaving():
            yield

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Raise Preempted from the signal handler inside, and at once if the signal has come."""
        outer = self.idle
        if self.received is not None:
            raise Preempted(self.received)
        self.idle = True
        try:
            yield
        finally:
            self.idle = outer


@contextmanager
def at_once() -> Iterator[None]:
    """Leave the moment the process is asked to: inside, no other rank waits for this one.

    Only in the main thread: beside another one it may be in the middle of an optimizer step.

    What is raised must be exchanged, so that every rank leaves: see
    :func:`nft_lightning.distributed.ranks.gather_or_raise`.
    """
    main = threading.current_thread() is threading.main_thread()
    listening = PreemptionHandler.listening if main else None
    with nullcontext() if listening is None else listening.leaving():
        yield
