"""Bounds of config fields, declared beside their defaults and checked in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from nft_lightning.errors import UserError

KEY = "bounds"


@dataclass(frozen=True)
class Bounds:
    """What a field may hold; None is no bound. ``use`` is the remedy, where the bound itself is none.

    Attributes:
        least, above: the value is at least this, or above it. most, below: at most this, or below it.
            NaN is none of them.
        choices: the value is one of these. finite: infinity and NaN are refused.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: Sequence[str] | None = None
    finite: bool = False
    use: str | None = None

    def problem(self, value: Any) -> tuple[str, str] | None:
        """Return what is wrong with ``value`` and the remedy; None where nothing is."""
        if self.choices is not None:
            known = f"use one of {', '.join(self.choices)}"
            return None if value in self.choices else ("is not known", known)
        if self.finite and not math.isfinite(value):
            return "is not finite", f"use {self.use}"
        if self.inside(value):
            return None
        start = "" if self.start is None else f"{'(' if self.least is None else '['}{self.start}"
        end = "" if self.end is None else f"{self.end}{')' if self.most is None else ']'}"
        if start and end:
            return f"is outside {start}, {end}", f"use {self.use}"
        if self.least is not None:
            return f"is below {self.least}", f"use {self.use or f'{self.least} or more'}"
        if self.above is not None:
            return f"is not above {self.above}", f"use {self.use}"
        word = "is not below" if self.most is None else "is above"
        return f"{word} {self.end}", f"use {self.use}"

    @property
    def start(self) -> float | None:
        """Return where the values begin, inside or not."""
        return self.above if self.least is None else self.least

    @property
    def end(self) -> float | None:
        """Return where the values end, inside or not."""
        return self.below if self.most is None else self.most

    def inside(self, value: Any) -> bool:
        """Return whether ``value`` meets every bound; NaN meets none."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )


def bounded(default: Any, **bounds: Any) -> Any:
    """Return a dataclass field with ``default`` and :class:`Bounds`."""
    return field(default=default, metadata={KEY: Bounds(**bounds)})


def check_bounds(config: Any, area: str) -> None:
    """Raise UserError for the first field outside its bounds.

    A field that a subclass gives another default keeps the bounds of the class above.

    Args:
        config: a dataclass. area: the part of the config that it is, such as ``batching``.
    """
    for declared in fields(config):
        bounds = bounds_of(type(config), declared.name)
        value = getattr(config, declared.name)
        found = None if bounds is None or value is None else bounds.problem(value)
        if found is not None:
            raise UserError(f"{area}.{declared.name}", value, *found)


def check_field(name: str, value: Any, **bounds: Any) -> None:
    """Raise UserError where ``value`` is outside :class:`Bounds`; None is inside, but no choice.

    Args:
        name: the config's key, with its area.
    """
    if value is None and "choices" not in bounds:
        return
    found = Bounds(**bounds).problem(value)
    if found is not None:
        raise UserError(name, value, *found)


def bounds_of(cls: type, name: str) -> Bounds | None:
    """Return the bounds of a dataclass's field; None where it has none."""
    for owner in cls.__mro__:
        declared = getattr(owner, "__dataclass_fields__", {}).get(name)
        if declared is not None and KEY in declared.metadata:
            found: Bounds = declared.metadata[KEY]
            return found
    return None
