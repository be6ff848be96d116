"""The framework's own exceptions: what was given, why it cannot work, what to do."""

from __future__ import annotations


class UserError(Exception):
    """Bad input that a person can correct. The message is one sentence: field, value, remedy."""

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        self.field, self.value = field, value
        self.given = (field, value, problem, remedy)
        super().__init__(f"{field}={value!r} {problem}: {remedy}.")

    def __reduce__(self) -> tuple[type[UserError], tuple[str, object, str, str]]:
        """To another rank."""
        return UserError, self.given


class RunStoppedError(Exception):
    """The run cannot continue; the message is one sentence with what to do."""


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says, without the full stop; its type if nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
