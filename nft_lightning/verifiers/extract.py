"""Finding the final answer in a completion. Everything here takes linear time and raises nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nft_lightning.common.bounds import check_field
from nft_lightning.errors import UserError

BOX_RULES = ("boxed", "official")
WHOLE = ("whole",)
SEARCH_RULES = ("any", "latex", "expression")
RULES = BOX_RULES + SEARCH_RULES
OFFICIAL_CHARACTERS = 100

# A box without braces holds a number, a letter by itself, or one command.
NUMBER = r"\s{0,9}-?\d[\d,]*(?:\.\d+)?"
LETTER = r"\s{1,9}[a-zA-Z](?=\s{0,9}(?:\$|\\\)|\\\]|[.,]|\Z))"
COMMAND = r"\s{0,9}-?\\[a-zA-Z]+(?:\{[^{}]*\}){0,2}"
TOKEN = re.compile(
    rf"\\(?:(?:boxed|fbox|framebox)(?:(?P<box>\s*\{{)|(?P<unbraced>{NUMBER}|{LETTER}|{COMMAND}))|.)|[{{}}]",
    re.DOTALL,
)
# What is between two boxes of one list, and a percent sign behind a box.
BETWEEN = r"\s*\$?\s*(?:[,;]|,?\s*(?:\\text\s*\{\s*)?\b(?:and|or)\b(?:\s*\})?)\s*\$?\s*"
LIST_GOES_ON = re.compile(BETWEEN)
LIST_BEFORE = re.compile(rf"[}}\d]{BETWEEN}\Z")
PERCENT_BEGINS = frozenset(" $%\\\n")
PERCENT = re.compile(r"\s{0,9}\$?\s{0,9}\\?%")
LIST_ENDS = frozenset(",;dr}")
LOOK_AROUND = 40
DOLLARS = re.compile(r"\$(?P<inner>[^$]*[^$\\])\$")


class Box(NamedTuple):
    """A box in a text: from ``begin`` to ``end`` with its command, and what it holds."""

    begin: int
    end: int
    content: str


def last_boxed(text: str) -> str | None:
    r"""Return the contents of the last complete box; of several where they are one list.

    A box is ``\boxed{}``, ``\fbox{}`` or ``\framebox{}`` with its braces balanced, or ``\boxed 5``.

    >>> last_boxed(r"$\boxed{1}$ and $\boxed{2}$"), last_boxed(r"\boxed{5} so \boxed 7")
    ('1, 2', '7')
    """
    start = max(text.rfind("boxed"), text.rfind("fbox"), text.rfind("framebox")) - 1
    if start < 0:
        return None
    # Only the end of the text, as a rule; a list, or a box that never closes, costs a pass over all.
    found = boxes(text, start)
    if not found or is_list_before(text, start):
        found = boxes(text)
    begin = len(found) - 1
    while begin > 0 and follows(text, found[begin - 1], found[begin]):
        begin -= 1
    return listed(text, found[begin:])


def is_list_before(text: str, start: int) -> bool:
    """Return True where a box that begins at ``start`` may be a further member of a list."""
    before = text[max(0, start - LOOK_AROUND) : start]
    return before.rstrip(" $\n")[-1:] in LIST_ENDS and LIST_BEFORE.search(before) is not None


def first_boxed(text: str) -> str | None:
    """Return the contents of the first complete box; of several where they are one list."""
    found = boxes(text)
    end = 1
    while end < len(found) and follows(text, found[end - 1], found[end]):
        end += 1
    return listed(text, found[:end])


def official_boxed(text: str) -> str | None:
    r"""Return the last ``\boxed{}``, which must be in the last 100 characters whole.

    As the official NFT code does with ``strict_box_verify`` (verl's ``math_dapo``).
    """
    tail = text[-OFFICIAL_CHARACTERS:]
    start = tail.rfind("\\boxed{")
    found = boxes(tail, start) if start >= 0 else []
    return found[-1].content if found else None


def boxes(text: str, start: int = 0) -> list[Box]:
    """Return all complete boxes from ``start`` on, by where their contents begin; linear time.

    ``\\{`` and ``\\}`` are signs, not braces, as in TeX.
    """
    open_braces: list[tuple[int, int, bool]] = []
    found: list[tuple[int, Box]] = []
    for token in TOKEN.finditer(text, start):
        if token["unbraced"]:
            content = token["unbraced"].strip().rstrip(",")
            found.append((token.end(), Box(token.start(), token.end(), content)))
        elif token["box"] or token[0] == "{":
            open_braces.append((token.start(), token.end(), bool(token["box"])))
        elif token[0] == "}" and open_braces:
            outer, inner, is_box = open_braces.pop()
            if is_box:
                content = text[inner : token.start()].strip()
                found.append((inner, Box(outer, token.end(), content)))
    if len(found) > 1:
        found.sort(key=lambda item: item[0])
    return [box for _, box in found]


def follows(text: str, box: Box, other: Box) -> bool:
    """Return True where ``other`` is the next member of a list that ``box`` is in."""
    between = text[box.end : other.begin] if 0 <= other.begin - box.end <= LOOK_AROUND else ""
    return LIST_GOES_ON.fullmatch(between) is not None


def listed(text: str, found: Sequence[Box]) -> str | None:
    """Return what the boxes of one list hold, with the percent sign that may be behind the last."""
    if not found:
        return None
    contents = found[0].content
    if len(found) > 1:
        contents = ", ".join(dict.fromkeys(box.content for box in found))
    end = found[-1].end
    is_percent = end < len(text) and text[end] in PERCENT_BEGINS and PERCENT.match(text, end)
    return contents + "\\%" if is_percent and contents and "%" not in contents else contents


def balanced(text: str) -> bool:
    """Return True where every brace has its partner."""
    depth = 0
    for token in TOKEN.finditer(text):
        depth += 1 if token["box"] or token[0] == "{" else -1 if token[0] == "}" else 0
        if depth < 0:
            return False
    return depth == 0


def bare(answer: str) -> str:
    """Return an answer or a gold without the spaces and the one pair of ``$`` around it."""
    answer = answer.strip()
    inner = DOLLARS.fullmatch(answer) if answer.startswith("$") else None
    return inner["inner"].strip() if inner else answer


def gold_answer(gold: str) -> str:
    r"""Return a gold as an answer; one that shows its answer in a ``\boxed{}`` is opened."""
    boxed = last_boxed(gold) if "boxed" in gold or "fbox" in gold else None
    return bare(gold if boxed is None else boxed)


def find_answer(text: str, rule: str, which: str = "last") -> str | None:
    """Return the final answer by a box rule, None where there is none."""
    if rule == "official":
        return official_boxed(text)
    if rule == "whole":
        return text.strip()
    return last_boxed(text) if which == "last" else first_boxed(text)


def find_answers(
    texts: Sequence[str],
    truncated: Sequence[bool] | None,
    rule: str,
    which: str,
    truncated_rule: str,
) -> list[str | None]:
    """Return one answer a text; a truncated one has none where the rule says ``unparsable``."""
    cut = truncated if truncated is not None and truncated_rule == "unparsable" else [False] * len(texts)
    return [None if c else find_answer(t, rule, which) for t, c in zip(texts, cut, strict=True)]


def check_rules(extract: str, which: str, truncated: str, rules: Sequence[str] = RULES) -> None:
    """Raise UserError where the extraction cannot work as asked."""
    check_field("verifier.extract", extract, choices=rules)
    check_field("verifier.which", which, choices=("last", "first"))
    check_field("verifier.truncated", truncated, choices=("score", "unparsable"))
    if extract == "official" and which == "first":
        raise UserError(
            "verifier.which",
            which,
            "has no effect on extract=official",
            "use which=last or extract=boxed",
        )
