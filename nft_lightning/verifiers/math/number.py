"""The exact value of a number in plain writing."""

from __future__ import annotations

import re
from fractions import Fraction

from nft_lightning.verifiers.math.reading import read

DIGITS = r"(?:\d+|\d{1,3}(?:(?:,|\{,\})\d{3})+)(?:\.\d+)?|\.\d+"
NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:\\\$\s*)?(?:(?P<plain>{DIGITS})"
    r"(?:\s*(?:\\times|\\cdot|\*|\u00d7)\s*10\s*\^\s*\{?(?P<power>[-+]?\d{1,3})\}?)?"
    rf"|\\[dt]?frac\s*\{{\s*(?P<top>-?(?:{DIGITS}))\s*\}}\s*\{{\s*(?P<bottom>-?(?:{DIGITS}))\s*\}}"
    r"|10\s*\^\s*\{(?P<ten>[-+]?\d{1,3})\}"
    rf"|(?P<over>{DIGITS})\s*/\s*(?P<under>{DIGITS}))\s*(?P<percent>\\?%)?"
)
NAME = re.compile(r"\\?[a-zA-Z](?:_\{?\w{1,9}\}?|\([a-z0-9]\))?\s*(?:=|\\approx)\s*")
LONGEST = 1000
# A decimal is equal to what it rounds: at six places, and at no fewer than five digits.
PLACES = Fraction(5, 10**7)
RELATIVE = Fraction(1, 10**5)


def number_said(text: str) -> Fraction | None:
    r"""Return the one number that an answer or a gold says, None where it says something else.

    >>> number_said(r"x = 1,\!234 \text{ cm}"), number_said(r"50\%"), number_said("> 7")
    (Fraction(1234, 1), Fraction(1, 2), None)
    """
    if len(text) > LONGEST:
        return None
    reading = read(text)
    if not reading.clear or reading.bases:
        return None
    value = parse_number(
        NAME.sub("", reading.core, count=1) if NAME.match(reading.core) else reading.core
    )
    return value / 100 if value is not None and reading.percent else value


def parse_number(text: str) -> Fraction | None:
    """Return the value, None for anything that is not a plain number of at most 1000 characters."""
    match = NUMBER.fullmatch(text.strip()) if len(text) <= LONGEST and text.isascii() else None
    if match is None:
        return None
    if match["ten"]:
        value = Fraction(10) ** int(match["ten"])
    elif match["plain"]:
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
    """Return the value of digits with optional thousands separators."""
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
