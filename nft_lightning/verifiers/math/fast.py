"""Verdicts that need no computer algebra: they are what a worker would say, only sooner.

``tests/verifiers/test_fast_path.py`` checks it on thousands of generated pairs.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from nft_lightning.verifiers.math.number import close

INTEGER = r"-?(?:\d{1,12}|[1-9]\d{0,2}(?:(?:,|\{,\})\d{3}){1,3})"
NUMBER = re.compile(
    rf"(?P<integer>{INTEGER})"
    r"|(?P<decimal>-?\d{1,8}\.\d{1,6})"
    r"|(?P<sign>-?)(?:\\[dt]?frac\{(?P<top>\d{1,6})\}\{(?P<bottom>0*[1-9]\d{0,5})\}"
    r"|(?P<over>\d{1,6})/(?P<under>0*[1-9]\d{0,5}))"
)
ASSIGNMENT = re.compile(r"[abcknmtxyz] ?= ?(?P<value>[^,]+)")
SIZED = re.compile(r"\\[dt]frac(?![a-zA-Z])")
DIGIT = re.compile(r"[0-9]")
SHORT = 200


def compare_plain(answer: str, gold: str) -> str | None:
    """Return ``correct`` or ``wrong`` where it is certain, else None. The gold's braces are balanced."""
    if answer == gold or one_frac(answer) == one_frac(gold):
        return "correct" if len(gold) <= SHORT and DIGIT.search(gold) else None
    if len(answer) > SHORT:
        return None
    assigned = ASSIGNMENT.fullmatch(answer)
    mine = number(assigned["value"] if assigned else answer)
    if mine is None:
        return None
    theirs = number(gold)
    if theirs is None:
        return None
    if mine[0] == theirs[0]:
        return "correct"
    decimal = mine[1] or theirs[1]
    return "correct" if decimal and close(mine[0], theirs[0]) else "wrong"


def one_frac(text: str) -> str:
    """Return ``text`` with all sizes of fractions as one."""
    return SIZED.sub(r"\\frac", text) if "frac" in text else text


@lru_cache(maxsize=2**16)
def number(text: str) -> tuple[Fraction, bool] | None:
    """Return the value and whether it is written as a decimal, None for anything but a plain number."""
    match = NUMBER.fullmatch(text)
    if match is None or not text.isascii():
        return None
    if match["integer"]:
        return Fraction(int(match["integer"].replace("{,}", "").replace(",", ""))), False
    if match["decimal"]:
        return Fraction(match["decimal"]), True
    value = Fraction(int(match["top"] or match["over"]), int(match["bottom"] or match["under"]))
    return (-value if match["sign"] else value), False
