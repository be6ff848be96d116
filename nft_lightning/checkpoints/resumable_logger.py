"""Loggers that a resumed run cuts back to its checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ResumableLogger(Protocol):
    """A logger that can forget what it was given behind a checkpoint; others keep it."""

    def position(self) -> Any:
        """Return how far it is, as plain data that a checkpoint's manifest holds."""
        ...

    def cut(self, position: Any) -> None:
        """Forget what is behind ``position``; None is all of it."""
        ...


def resumable(loggers: Iterable[Any]) -> dict[str, ResumableLogger]:
    """Return the loggers that can be cut, by class name; the second of a class has a number."""
    seen: Counter[str] = Counter()
    found: dict[str, ResumableLogger] = {}
    for logger in loggers:
        if isinstance(logger, ResumableLogger):
            name = type(logger).__name__
            seen[name] += 1
            found[name if seen[name] == 1 else f"{name} {seen[name]}"] = logger
    return found
