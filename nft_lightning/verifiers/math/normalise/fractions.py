r"""Fractions in one way: ``\frac12``, ``1 1/4``, ``0.\overline{3}``."""

from __future__ import annotations

import re
from math import gcd

SHORT = re.compile(
    r"\\frac\s*(?:\{(?P<top>[^{}]*)\}|(?P<first>\d))\s*(?:\{(?P<bottom>[^{}]*)\}|(?P<second>\d))"
)
MIXED = re.compile(
    r"(?<![\d.,}^/_)a-zA-Z])(?P<whole>\d{1,9})"
    r"(?:\s*\\frac\{\s*(?P<top>\d{1,9})\s*\}\{\s*(?P<bottom>\d{1,9})\s*\}"
    r"|\s+(?P<over>\d{1,9})\s*/\s*(?P<under>\d{1,9}))(?![\d.!^(/])"
)
LONGEST = 30
REPEATING = re.compile(
    rf"(?<![\d.])(?P<whole>\d{{0,{LONGEST}}})\.(?P<fixed>\d{{0,{LONGEST}}})"
    rf"(?:\\(?:overline|bar)\s*(?:\{{\s*(?P<lined>\d{{1,{LONGEST}}})\s*\}}|(?P<single>\d))"
    rf"|\\dot\s*\{{?(?P<first>\d)\}}?(?:(?P<between>\d{{0,{LONGEST}}})\\dot\s*\{{?(?P<last>\d)\}}?)?)(?!\d)"
)
POINT_GROUP = re.compile(rf"(?<![\d.])(?P<whole>\d{{1,{LONGEST}}})\.\((?P<lined>\d{{1,{LONGEST}}})\)")


def plain_fractions(text: str) -> str:
    r"""Return ``text`` with mixed numbers and repeating decimals as fractions.

    >>> plain_fractions("11 5/6"), plain_fractions(r"-2\frac12"), plain_fractions(r"0.1\overline{2}")
    ('\\frac{71}{6}', '-\\frac{5}{2}', '\\frac{11}{90}')
    >>> plain_fractions("4 10/3")
    '4 10/3'
    """
    text = SHORT.sub(braced, text)
    text = POINT_GROUP.sub(repeating, REPEATING.sub(repeating, text))
    return MIXED.sub(mixed, text)


def braced(match: re.Match[str]) -> str:
    r"""Return ``\frac{1}{2}`` for ``\frac12``, ``\frac1{2}`` and the like."""
    top = match["first"] if match["top"] is None else match["top"]
    bottom = match["second"] if match["bottom"] is None else match["bottom"]
    return f"\\frac{{{top}}}{{{bottom}}}"


def mixed(match: re.Match[str]) -> str:
    """Return a mixed number as one fraction; what is no proper fraction after a number stays."""
    whole = int(match["whole"])
    top = int(match["top"] or match["over"])
    bottom = int(match["bottom"] or match["under"])
    if not 0 < top < bottom:
        return match[0]
    return f"\\frac{{{whole * bottom + top}}}{{{bottom}}}"


def repeating(match: re.Match[str]) -> str:
    """Return a repeating decimal as the fraction that it is."""
    found = match.groupdict()
    fixed = found.get("fixed") or ""
    lined = found.get("lined") or found.get("single")
    if lined is None:
        lined = match["first"]
        if match["last"] is not None:
            lined += match["between"] + match["last"]
    whole = found["whole"] or ""
    nines = 10 ** len(lined) - 1
    bottom = nines * 10 ** len(fixed)
    top = int((whole + fixed) or "0") * nines + int(lined)
    return reduced(top, bottom)


def reduced(top: int, bottom: int) -> str:
    r"""Return ``\frac{top}{bottom}`` in lowest terms."""
    common = gcd(top, bottom)
    return f"\\frac{{{top // common}}}{{{bottom // common}}}"
