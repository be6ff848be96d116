r"""Lists of answers, ``1, 2, \ldots, n``: where they are cut, and what their dots stand for."""

from __future__ import annotations

import re

OPENS, CLOSES = "([{", ")]}"
ELLIPSIS = re.compile(r"\\(?:ldots|vdots|ddots)(?![a-zA-Z])\s*")
DOTS = "\\text{ellipsis}"
BRACKETED = re.compile(r"\s*(?:\\\{|[(\[]).*(?:\\\}|[)\]])\s*", re.DOTALL)


def pieces(text: str) -> list[str]:
    r"""Return what is between the commas that no bracket encloses; thousands are no list.

    >>> pieces(r"1, (2, 3), \frac{1,2}{3}"), pieces("1,234")
    (['1', '(2, 3)', '\\frac{1,2}{3}'], ['1,234'])
    """
    found = []
    depth = begin = 0
    for place, character in enumerate(text):
        if character in OPENS:
            depth += 1
        elif character in CLOSES:
            depth -= 1
        elif character == "," and depth == 0 and not is_thousands_comma(text, place):
            found.append(text[begin:place].strip())
            begin = place + 1
    return [*found, text[begin:].strip()]


def is_thousands_comma(text: str, place: int) -> bool:
    """Return True where a comma has a digit before it and exactly three right behind it."""
    behind = text[place + 1 : place + 5]
    three = len(behind) >= 3 and behind[:3].isdigit() and not behind[3:].isdigit()
    return three and text[max(0, place - 1) : place].isdigit()


def with_dots_named(text: str) -> str:
    r"""Return a list with its dots as a member that can be compared, in an order that counts.

    >>> with_dots_named(r"1, 2, \ldots, n")
    '(1, 2, \\text{ellipsis}, n)'
    """
    if ELLIPSIS.search(text) is None:
        return text
    named = ELLIPSIS.sub(lambda _: DOTS, text)
    is_list = len(pieces(named)) > 1 and "=" not in named and BRACKETED.fullmatch(named) is None
    return f"({named})" if is_list else named
