"""Signals that ask a run to leave: at once where nothing would be lost, else at the next safe point."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
EXIT_PREEMPTED = 75
"""EX_TEMPFAIL: the run was asked to leave, and goes on with ``resume``."""
EXIT_INTERRUPTED = 130


class Preempted(BaseException):
    """The run was asked to leave. Not an Exception, so that nobody takes it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.checkpoint: str | None = None

    @property
    def exit_code(self) -> int:
        """As documented: 75, or 130 after Ctrl-C."""
        return EXIT_INTERRUPTED if self.signum == signal.SIGINT else EXIT_PREEMPTED


class Departure:
    """Remembers the first signal; the second Ctrl-C ends the process on the spot.

    Attributes:
        several_ranks: no rank may leave alone while others wait for it in a collective call, so each
            ends at once, and the last checkpoint stands.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.idle = False
        self.several_ranks = False
        self.writing = False
        self.before: dict[int, Any] = {}

    def install(self) -> None:
        """Listen, in the main thread alone; also again after somebody else took the handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in ASKING:
            current = signal.getsignal(signum)
            if current != self.handle:
                self.before.setdefault(signum, current)
                signal.signal(signum, self.handle)

    def restore(self) -> None:
        """Put back what was there."""
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        self.before = {}

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Called by Python between two instructions of the main thread."""
        if self.received == signal.SIGINT and signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self.received = self.received or signum
        if self.several_ranks and not self.writing:
            os._exit(Preempted(self.received).exit_code)
        if self.idle:
            self.idle = False
            raise Preempted(self.received)

    def check(self) -> None:
        """A safe point: leave here if asked to."""
        if self.received is not None:
            raise Preempted(self.received)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, nothing is changed that a checkpoint holds: leave the moment one is asked to."""
        self.check()
        self.idle = True
        try:
            yield
        finally:
            self.idle = False
