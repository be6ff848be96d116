r"""Numbers in one way: ``1234`` for ``1,234``, ``4.5 \times 10^{33}`` for ``4.5e33``."""

from __future__ import annotations

import re

LETTER_E = r"(?:[eE]|\\text\s*\{\s*[eE]\s*\}|\\(?:rm|mathrm)\s+[eE]|\{\\rm\s+[eE]\})"
E_NOTATION = re.compile(
    rf"(?<![\w.\\])(?P<digits>\d+(?:\.\d*)?|\.\d+)\s{{0,9}}{LETTER_E}(?P<sign>[-+]?)(?P<power>\d+)(?![\w.])"
)
TIMES_TEN = re.compile(
    r"(?<=\d)\s*(?:[xX*]|\\times|\\cdot|\\ast)\s*10\s*(?:\^|\*\*)\s*"
    r"(?:\{\s*(?P<braced>[-+]?\s*\d+)\s*\}|\(\s*(?P<group>[-+]?\s*\d+)\s*\)|(?P<bare>[-+]?\d+))"
)
TEN_POWER = re.compile(r"(?<![\d.])10\s*\^\s*(?P<bare>[-+]?\d+)")
MARKED = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\{,\}|,\\!|['_])\d{3})+(?![\d'_])")
SPACED = re.compile(r"(?<![\d.,/^{_])\d{1,3}(?: \d{3})+(?![\d/]| ?\d)")
COMMAS = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?:\.\d*)?")
POINTS = re.compile(r"[-+]?\d{1,3}(?:\.\d{3}){2,}")
NO_ZERO = re.compile(r"(?<![\d}])\.(?=\d)")
NO_DECIMALS = re.compile(r"(?<=\d)\.(?!\d|\s*\\(?:overline|bar|dot))")
MARKS = str.maketrans("", "", "{},!\\'_ ")


def plain_numerals(text: str) -> str:
    r"""Return ``text`` with each number written in one way.

    >>> plain_numerals("4.5e33"), plain_numerals("(1e3, .5E-07)")
    ('4.5 \\times 10^{33}', '(1 \\times 10^{3}, 0.5 \\times 10^{-7})')
    >>> plain_numerals("1{,}234{,}567"), plain_numerals("10 000"), plain_numerals("12,34,567")
    ('1234567', '10000', '1234567')
    """
    text = MARKED.sub(joined, SPACED.sub(joined, text))
    text = E_NOTATION.sub(as_power, text)
    text = TEN_POWER.sub(r"10^{\g<bare>}", TIMES_TEN.sub(times_ten, text))
    if COMMAS.fullmatch(text):
        text = text.replace(",", "")
    elif POINTS.fullmatch(text):
        text = text.replace(".", "")
    return NO_DECIMALS.sub("", NO_ZERO.sub("0.", text))


def joined(match: re.Match[str]) -> str:
    """Return the digits of a number without the marks between its thousands."""
    return match[0].translate(MARKS)


def as_power(match: re.Match[str]) -> str:
    r"""Return ``4.5 \times 10^{33}`` for ``4.5e33``. Digits stay digits: a power may have thousands."""
    digits = match["digits"].rstrip(".")
    sign = "-" if match["sign"] == "-" else ""
    return f"{digits} \\times 10^{{{sign}{match['power'].lstrip('0') or '0'}}}"


def times_ten(match: re.Match[str]) -> str:
    r"""Return `` \times 10^{33}`` for the ways to write a power of ten after a number."""
    power = (match["braced"] or match["group"] or match["bare"]).replace(" ", "").lstrip("+")
    return f" \\times 10^{{{power}}}"
