"""Parentheses around nothing but parentheses: a dozen of them cost the parser seconds."""

from __future__ import annotations


def without_double_parentheses(text: str) -> str:
    """Return ``text`` with each pair of parentheses that directly holds another pair left out.

    >>> without_double_parentheses("(((1)))+((x)+1)")
    '(1)+((x)+1)'
    """
    if "((" not in text:
        return text
    partner: dict[int, int] = {}
    opened: list[int] = []
    for place, character in enumerate(text):
        if character == "(":
            opened.append(place)
        elif character == ")" and opened:
            partner[opened.pop()] = place
    left_out: set[int] = set()
    for begin, end in partner.items():
        if partner.get(begin + 1) == end - 1:
            left_out.update((begin, end))
    return "".join(character for place, character in enumerate(text) if place not in left_out)
