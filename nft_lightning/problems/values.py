"""What a cell of a data set says as text; what is no text is refused, never written out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


class NotTextError(ValueError):
    """A value that is no text; the message says what it is, as in ``is null``."""


def text_of(value: Any, *, lists: bool = False) -> str:
    """Return a text, or a number as text; with ``lists`` the members of a list, joined by commas.

    Raises:
        NotTextError: null, NaN, an infinity, true or false, an object, bytes, or nothing but spaces.

    >>> text_of(7), text_of(["x=1", 2], lists=True)
    ('7', 'x=1, 2')
    """
    if isinstance(value, list | tuple):
        if not lists:
            raise NotTextError("is a list")
        if not value:
            raise NotTextError("is an empty list")
        return ", ".join(text_of(member) for member in value)
    if isinstance(value, str):
        if not value.strip():
            raise NotTextError("is empty")
        return value
    return number_text(value)


def number_text(value: Any) -> str:
    """Return a number as text.

    Raises:
        NotTextError: it is no number, or none that can be written.
    """
    if value is None:
        raise NotTextError("is null")
    if isinstance(value, bool):
        raise NotTextError(f"is {str(value).lower()}, not text")
    if isinstance(value, float) and not math.isfinite(value):
        raise NotTextError("is NaN" if math.isnan(value) else "is infinite")
    if not isinstance(value, int | float):
        raise NotTextError(
            "is an object" if isinstance(value, dict) else f"is of type {type(value).__name__}"
        )
    try:
        return str(value)
    except ValueError as error:  # Python writes no integer of more than 4,300 digits
        raise NotTextError("is an integer of thousands of digits") from error


def plain(value: Any) -> bool:
    """Return whether ``value`` is plain data, which a checkpoint can hold."""
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and plain(member) for key, member in value.items())
    if isinstance(value, list | tuple):
        return all(plain(member) for member in value)
    return value is None or isinstance(value, str | int | float | bool)


def built_in(value: Any) -> Any:
    """Return plain data with the built-in type in place of each subclass of one, such as a named tuple.

    >>> built_in({"size": numpy.float64(2), "place": Point(1, 2)})
    {'size': 2.0, 'place': (1, 2)}
    """
    if isinstance(value, dict):
        return {built_in(key): built_in(member) for key, member in value.items()}
    for kind in (list, tuple):
        if isinstance(value, kind):
            return kind(built_in(member) for member in value)
    if isinstance(value, str):
        return str.__str__(value)
    if value is None or isinstance(value, bool):
        return value
    return float(value) if isinstance(value, float) else int(value)


def other_columns(row: Mapping[str, Any], used: Iterable[str | None]) -> dict[str, Any]:
    """Return what a row holds beside the columns ``used``, as far as it is plain data."""
    return {name: value for name, value in row.items() if name not in set(used) and plain(value)}


def is_blank(value: Any) -> bool:
    """Return True for what an export writes where there is nothing: null, NaN, an empty text."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())
