"""Answers that are no expression: times, ratios, choices and words. math-verify computes with them."""

from __future__ import annotations

import re
from fractions import Fraction

from nft_lightning.verifiers.math.normalise.lists import pieces
from nft_lightning.verifiers.math.number import parse_number

WRAPPED = re.compile(r"\\text\{([^{}]*)\}")
TIME = re.compile(
    r"(?P<hour>\d{1,2})(?:\s*:\s*(?P<minute>[0-5]\d)(?:\s*:\s*(?P<second>[0-5]\d))?)?"
    r"\s*(?P<half>[ap])?(?(half)\.?\s*m\.?)",
    re.IGNORECASE,
)
HOUR = re.compile(r"\d{1,2}")
NOON = 12 * 3600
CHOICE = re.compile(r"\(?([A-J])\)?", re.IGNORECASE)
MARKED_CHOICE = re.compile(
    r"(?:\((?P<inside>[A-J])\)|(?P<before>[A-J])\s*[.):])[.:]?\s*(?P<rest>[\w\\($].*)", re.DOTALL
)
OTHER_CHOICE = re.compile(r"(?:^|[^A-Za-z])\(?[A-J]\s*[).:]|\b(?:or|and|not)\b")
WORDS = re.compile(r"[A-Za-z][A-Za-z0-9 ,.'-]*")
WORD = re.compile(r"[A-Za-z]{2}")
DIGIT = re.compile(r"\d")
LONG_WORD = re.compile(r"[A-Za-z]{3}")


def spoken(text: str) -> str:
    r"""Return ``text`` with the contents of each ``\text{}`` in its place."""
    return WRAPPED.sub(r"\1", text).strip()


def compare_kinds(answer: str, gold: str) -> str | None:
    """Return ``correct`` or ``wrong`` for times, ratios, choices and words; None for anything else.

    Both are whole texts in plain writing, units included.
    """
    for compare in (compare_choices, compare_times, compare_ratios, compare_words):
        outcome = compare(answer, gold)
        if outcome is not None:
            return outcome
    return None


def compare_choices(answer: str, gold: str) -> str | None:
    r"""Compare the letter of a choice, which may have its text behind it.

    >>> compare_choices(r"\text{(C)} 5", "C"), compare_choices("C) 5 or D) 6", "C")
    ('correct', None)
    """
    theirs = CHOICE.fullmatch(spoken(gold))
    mine = MARKED_CHOICE.fullmatch(spoken(answer))
    if theirs is None or mine is None or not mine["rest"] or OTHER_CHOICE.search(mine["rest"]):
        return None
    letter = mine["inside"] or mine["before"]
    return "correct" if letter == theirs[1].upper() else "wrong"


def compare_times(answer: str, gold: str) -> str | None:
    """Compare times of day. ``12:30`` is a time: it is neither 12/30 nor 2:5.

    >>> compare_times("11:30 a.m.", "11:30 AM"), compare_times("23:30", "11:30 pm")
    ('correct', 'correct')
    >>> compare_times("12.5", "12:30")
    'wrong'
    """
    mine, theirs = clock(answer), clock(gold)
    if mine is None and theirs is None:
        return None
    if theirs is not None and theirs[1] is not None and HOUR.fullmatch(answer):
        mine = clock(f"{answer}:00")  # 9 for 9 a.m.
    if mine is None or theirs is None:
        return "wrong"
    same = mine[0] == theirs[0]
    if None in (mine[1], theirs[1]) and min(mine[0], theirs[0]) < NOON:
        same = mine[0] % NOON == theirs[0] % NOON  # 11:30 may be 11:30 PM
    return "correct" if same else "wrong"


def clock(text: str) -> tuple[int, str | None] | None:
    """Return the seconds since midnight and which half of the day was said, None for no time."""
    match = TIME.fullmatch(spoken(text))
    if match is None or (match["minute"] is None and match["half"] is None):
        return None
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    half = match["half"].lower() if match["half"] else None
    if hour > (24 if half is None else 12):
        return None
    if half is not None:
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour * 3600 + minute * 60 + second, half


def compare_ratios(answer: str, gold: str) -> str | None:
    """Compare ratios of as many members: 2:4 is 1:2, and 1:4:9 is not 1/36.

    >>> compare_ratios("2:4", "1:2"), compare_ratios("1:36", "1:4:9"), compare_ratios("1/2", "1:2")
    ('correct', 'wrong', 'correct')
    """
    mine, theirs = members(answer), members(gold)
    if mine is None and theirs is None:
        return None
    mine, theirs = mine or alone(answer), theirs or alone(gold)
    if mine is None or theirs is None or len(mine) != len(theirs):
        return "wrong"
    pairs = zip(mine, theirs, strict=True)
    return "correct" if all(a * theirs[-1] == b * mine[-1] for a, b in pairs) else "wrong"


def members(text: str) -> list[Fraction] | None:
    """Return the members of a ratio of numbers, None for anything else."""
    parts = spoken(text).split(":")
    values = [parse_number(part) for part in parts]
    if len(parts) < 2 or any(value is None for value in values) or values[-1] == 0:
        return None
    return [value for value in values if value is not None]


def alone(text: str) -> list[Fraction] | None:
    """Return a number as a ratio to 1, None where it is none."""
    value = parse_number(text)
    return None if value is None else [value, Fraction(1)]


def compare_words(answer: str, gold: str) -> str | None:
    r"""Compare words by their letters, lists of them in any order.

    >>> compare_words(r"\text{True}", "true"), compare_words(r"\text{Monday}", "Tuesday")
    ('correct', 'wrong')
    """
    mine, theirs = words_of(answer), words_of(gold)
    if mine is None or theirs is None:
        return None
    if mine == theirs:
        return "correct"
    sure = "\\text" in answer + gold or (LONG_WORD.search(answer) and LONG_WORD.search(gold))
    return "wrong" if (sure and " " in answer + gold) or "\\text" in answer + gold else None


def words_of(text: str) -> list[str] | None:
    """Return the words of a text, sorted where commas part them; None where it is none."""
    said = spoken(text)
    if WORDS.fullmatch(said) is None or (WORD.search(said) is None and "," not in said):
        return None
    if DIGIT.search(said) and not LONG_WORD.search(said):
        return None  # x2 is an expression, June 20 is none
    return sorted(
        re.sub(r"[ .'-]", "", piece).casefold() for piece in pieces(said.replace(" and ", ", "))
    )
