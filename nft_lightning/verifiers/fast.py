"""Verdicts that need no computer algebra, only where math-verify can not say otherwise.

``tests/verifiers/test_fast_path.py`` proves it on thousands of generated pairs.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

INTEGER = r"-?(?:\d{1,12}|[1-9]\d{0,2}(?:(?:,|\{,\})\d{3}){1,3})"
NUMBER = re.compile(
    rf"(?P<integer>{INTEGER})"
    r"|(?P<decimal>-?\d{1,8}\.\d{1,6})"
    r"|(?P<sign>-?)(?:\\[dt]?frac\{(?P<top>\d{1,6})\}\{(?P<bottom>0*[1-9]\d{0,5})\}"
    r"|(?P<over>\d{1,6})/(?P<under>0*[1-9]\d{0,5}))"
)
ASSIGNMENT = re.compile(r"[abcknmtxyz] ?= ?(?P<value>[^,]+)")
DIGIT = re.compile(r"[0-9]")
SHORT = 200
# math-verify rounds to six places where a decimal takes part: closer than this, it decides.
CLOSE = Fraction(1, 10**5)


def compare_plain(answer: str, gold: str) -> str | None:
    """``correct`` or ``wrong`` where it is certain, else None. Both readable, their braces balanced."""
    if answer == gold or one_frac(answer) == one_frac(gold):
        # Of a text with a digit, math-verify always keeps something, which then equals itself.
        return "correct" if len(gold) <= SHORT and DIGIT.search(gold) else None
    assigned = ASSIGNMENT.fullmatch(answer)
    mine = number(assigned["value"] if assigned else answer)
    if mine is None:
        return None
    theirs = number(gold)
    if theirs is None:
        return None
    if mine[0] == theirs[0]:
        return "correct" if mine[1] == theirs[1] or (mine[2] and theirs[2]) else None
    if not mine[1] and not theirs[1]:
        return "wrong"
    return "wrong" if abs(mine[0] - theirs[0]) > CLOSE else None


def one_frac(text: str) -> str:
    """All sizes of fractions as one, which is the first thing that math-verify does."""
    return text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac") if "frac" in text else text


@lru_cache(maxsize=2**16)
def number(text: str) -> tuple[Fraction, bool, bool] | None:
    """The value, whether it is written as a decimal, and whether floats hold it exactly."""
    match = NUMBER.fullmatch(text)
    if match is None or not text.isascii():
        return None
    if match["integer"]:
        return Fraction(int(match["integer"].replace("{,}", "").replace(",", ""))), False, True
    if match["decimal"]:
        value = Fraction(match["decimal"])
        return value, True, is_dyadic(value)
    value = Fraction(int(match["top"] or match["over"]), int(match["bottom"] or match["under"]))
    return (-value if match["sign"] else value), False, is_dyadic(value)


def is_dyadic(value: Fraction) -> bool:
    """True where the denominator is a power of two."""
    return value.denominator & (value.denominator - 1) == 0
