"""Loggers that a resumed run cuts back to its checkpoint."""

from __future__ import annotations

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
