"""Where the time goes: named phases with their tokens, summed, and passed to whoever watches."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Running(threading.local):
    """The running phases of each thread with the time of their last start, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[tuple[str, float]] = []


class PhaseTimer:
    """Sums seconds and tokens by phase. Phases do not nest: the innermost running one gets the time.

    Each thread has its own running phases; what runs beside training adds to the same sums.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.tokens: dict[str, int] = defaultdict(int)
        self.gauges: dict[str, float] = {}
        self.listeners: list[Callable[[str], None]] = []
        self.running = Running()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block under ``name``."""
        now = time.perf_counter()
        stack = self.running.stack
        if stack:
            outer, since = stack[-1]
            self.seconds[outer] += now - since
        stack.append((name, now))
        for listener in self.listeners:
            listener(name)
        try:
            yield
        finally:
            _, since = stack.pop()
            now = time.perf_counter()
            self.seconds[name] += now - since
            if stack:
                stack[-1] = (stack[-1][0], now)

    def drain(self) -> dict[str, float]:
        """Return gauges, and since the last call each phase's seconds and tokens per second, if any."""
        found = dict(self.gauges)
        found |= {f"time/{phase}_seconds": value for phase, value in self.seconds.items()}
        for phase, count in self.tokens.items():
            if self.seconds.get(phase):
                found[f"time/{phase}_tokens_per_second"] = count / self.seconds[phase]
        self.seconds, self.tokens = defaultdict(float), defaultdict(int)
        return found
