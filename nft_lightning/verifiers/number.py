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
# A decimal is equal to what it rounds: at six places, and at no fewer than five digits.
PLACES = Fraction(5, 10**7)
RELATIVE = Fraction(1, 10**5)


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


def close(answer: Fraction, gold: Fraction) -> bool:
    """Return True where a decimal is as good as the other number: at six places, and relative to it.

    Whole numbers are no rounding of anything.

    >>> close(Fraction("0.333333"), Fraction(1, 3)), close(Fraction("6.6e-34"), Fraction("1.6e-19"))
    (True, False)
    """
    if 1 in (answer.denominator, gold.denominator):
        return answer == gold
    difference = abs(answer - gold)
    return difference <= PLACES and difference <= RELATIVE * abs(gold)
