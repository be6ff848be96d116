"""The bases of numbers, ``101_2``: math-verify drops them."""

from __future__ import annotations

import re
from functools import partial

COUNTED = """two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen"""
WORDS = COUNTED.split()
NAMES = {name: base for base, name in enumerate(WORDS, 2)}
SUBSCRIPT = re.compile(
    r"(?<![a-zA-Z\\_])(?P<opens>\(?)(?<![\d.])(?P<digits>\d[\dA-F]*(?:\.[\dA-F]+)?)(?P<closes>\)?)\s*_\s*"
    rf"(?:\{{\s*(?:\\text\{{)?\s*(?P<braced>\d{{1,2}}|{'|'.join(WORDS)})\s*\}}?\s*\}}|(?P<bare>\d(?!\d)|\d\d(?!\d)))"
)


def split_bases(text: str) -> tuple[str, tuple[int, ...]]:
    r"""Return ``text`` without the bases of its numbers, and the bases from left to right.

    Raises:
        ValueError: a digit is too large for its base, or there is no such base.

    >>> split_bases("101_{2}"), split_bases("(12)_8 + 7_8"), split_bases("x_2")
    (('101', (2,)), ('12 + 7', (8, 8)), ('x_2', ()))
    """
    if "_" not in text:
        return text, ()
    found: list[int] = []
    return SUBSCRIPT.sub(partial(note_base, found), text), tuple(found)


def note_base(found: list[int], match: re.Match[str]) -> str:
    """Return a number without its base, which goes to ``found``."""
    if len(match["opens"]) != len(match["closes"]):
        return match[0]
    base = NAMES.get(match["braced"]) or int(match["braced"] or match["bare"])
    if base <= 10 and not match["digits"].replace(".", "").isdigit():
        return match[0]  # 2A_1 is twice A_1
    if base < 2 or any(int(digit, 16) >= base for digit in match["digits"] if digit != "."):
        raise ValueError(f"one of {match['digits']} is no digit of base {base}")
    found.append(base)
    return str(match["digits"])
