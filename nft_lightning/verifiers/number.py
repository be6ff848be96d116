"""The exact value of a number in plain writing."""

from __future__ import annotations

import re
from fractions import Fraction

DIGITS = r"(?:\d+|\d{1,3}(?:(?:,|\{,\})\d{3})+)(?:\.\d+)?|\.\d+"
NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:\\\$\s*)?(?:(?P<plain>{DIGITS})"
    r"(?:\s*(?:\\times|\\cdot|\*|\u00d7)\s*10\s*\^\s*\{?(?P<power>[-+]?\d{1,3})\}?)?"
    rf"|\\[dt]?frac\s*\{{\s*(?P<top>-?(?:{DIGITS}))\s*\}}\s*\{{\s*(?P<bottom>(?:{DIGITS}))\s*\}}"
    rf"|(?P<over>{DIGITS})\s*/\s*(?P<under>{DIGITS}))\s*(?P<percent>\\?%)?"
)
LONGEST = 1000


def parse_number(text: str) -> Fraction | None:
    """The value, None for anything that is not a plain number of at most 1000 characters."""
    match = NUMBER.fullmatch(text.strip()) if len(text) <= LONGEST and text.isascii() else None
    if match is None:
        return None
    if match["plain"]:
        value = exact(match["plain"]) * Fraction(10) ** int(match["power"] or 0)
    else:
        below = exact(match["bottom"] or match["under"])
        if below == 0:
            return None
        value = exact(match["top"] or match["over"]) / below
    if match["percent"]:
        value /= 100
    return -value if match["sign"] == "-" else value


def exact(digits: str) -> Fraction:
    """Digits with optional thousands separators."""
    return Fraction(digits.replace("{,}", "").replace(",", ""))
