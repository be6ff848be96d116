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
        least, above, most: the value is at least, above, or at most this; NaN is none of them.
        choices: the value is one of these. finite: infinity is refused.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: Sequence[str] | None = None
    finite: bool = False
    use: str | None = None

    def problem(self, value: Any) -> tuple[str, str] | None:
        """Return what is wrong with ``value`` and the remedy; None where nothing is."""
        if self.choices is not None and value not in self.choices:
            return "is not known", f"use one of {', '.join(self.choices)}"
        if self.least is not None and self.most is not None and not self.least <= value <= self.most:
            return f"is outside [{self.least}, {self.most}]", f"use {self.use}"
        if self.least is not None and not value >= self.least:
            return f"is below {self.least}", f"use {self.use or f'{self.least} or more'}"
        if self.finite and not math.isfinite(value):
            return "is not finite", f"use {self.use}"
        if self.above is not None and not value > self.above:
            return f"is not above {self.above}", f"use {self.use}"
        return None


def bounded(default: Any, **bounds: Any) -> Any:
    """Return a dataclass field with ``default`` and :class:`Bounds`."""
    return field(default=default, metadata={KEY: Bounds(**bounds)})


def check_bounds(config: Any, area: str) -> None:
    """Raise UserError for the first field outside its bounds.

    Args:
        config: a dataclass. area: the part of the config that it is, such as ``batching``.
    """
    for declared in fields(config):
        bounds = declared.metadata.get(KEY)
        value = getattr(config, declared.name)
        if bounds is None or value is None:
            continue
        found = bounds.problem(value)
        if found is not None:
            raise UserError(f"{area}.{declared.name}", value, *found)
