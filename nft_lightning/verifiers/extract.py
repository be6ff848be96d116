"""Finding the final answer in a completion, and writing it in plain characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from nft_lightning.errors import UserError
from nft_lightning.verifiers.base import check_choice

BOX_RULES = ("boxed", "official")
SEARCH_RULES = ("any", "latex", "expression")
RULES = BOX_RULES + SEARCH_RULES
OFFICIAL_CHARACTERS = 100

TOKEN = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
NOT_PLAIN = re.compile(r"[^\x00-\x7f]")
E_NOTATION = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([+-]?\d+)")
DOLLARS = re.compile(r"\$(?P<inner>[^$]*[^$\\])\$")
FOLDED = {
    "\u2212": "-",
    "\ufe63": "-",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u3000": " ",
    # Marks without a width or a meaning; the embedding and overriding ones change what is seen.
    **dict.fromkeys("\u200b\u200e\u200f\u2060\ufeff", ""),
}


def last_boxed(text: str) -> str | None:
    r"""The contents of the last complete ``\boxed{...}`` or ``\fbox{...}``, braces balanced."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    # The end of the text alone, as a rule; a box that never closes costs one pass over all of it.
    found = boxes(text, start) or boxes(text)
    return found[-1] if found else None


def first_boxed(text: str) -> str | None:
    """The contents of the first complete box."""
    found = boxes(text)
    return found[0] if found else None


def official_boxed(text: str) -> str | None:
    r"""The last ``\boxed{}``, which must lie in the last 100 characters whole.

    As the official NFT code does with ``strict_box_verify`` (verl's ``math_dapo``).
    """
    tail = text[-OFFICIAL_CHARACTERS:]
    start = tail.rfind("\\boxed{")
    found = boxes(tail, start) if start >= 0 else []
    return found[-1] if found else None


def boxes(text: str, start: int = 0) -> list[str]:
    """The contents of all complete boxes from ``start`` on, by where they begin; linear time.

    ``\\{`` and ``\\}`` are signs, not braces, as in TeX.
    """
    open_braces: list[tuple[int, bool]] = []
    found: list[tuple[int, int]] = []
    for token in TOKEN.finditer(text, start):
        if token["box"] or token[0] == "{":
            open_braces.append((token.end(), bool(token["box"])))
        elif token[0] == "}" and open_braces:
            begin, is_box = open_braces.pop()
            if is_box:
                found.append((begin, token.start()))
    return [text[begin:end].strip() for begin, end in sorted(found)]


def balanced(text: str) -> bool:
    """True where every brace has its partner."""
    depth = 0
    for token in TOKEN.finditer(text):
        depth += 1 if token["box"] or token[0] == "{" else -1 if token[0] == "}" else 0
        if depth < 0:
            return False
    return depth == 0


def fold(text: str) -> str:
    """Full-width characters, digits of other scripts and odd minus signs as plain ones."""
    return text if text.isascii() else NOT_PLAIN.sub(lambda match: fold_character(match[0]), text)


def fold_character(character: str) -> str:
    """The plain form of one character, else itself."""
    if character in FOLDED:
        return FOLDED[character]
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def plain_e_notation(text: str) -> str:
    r"""``4.5e33`` as ``4.5 \times 10^{33}``: math-verify would read the E as Euler's number."""
    match = E_NOTATION.fullmatch(text.strip())
    return f"{match[1]} \\times 10^{{{int(match[2])}}}" if match else text


def readable(answer: str) -> str:
    """An answer or a gold as math-verify gets it: folded, one pair of ``$`` off, no E-notation."""
    answer = fold(answer).strip()
    inner = DOLLARS.fullmatch(answer)
    return plain_e_notation(inner["inner"].strip() if inner else answer)


def gold_answer(gold: str) -> str:
    r"""A gold as math-verify gets it; one that shows its answer in a ``\boxed{}`` is opened."""
    boxed = last_boxed(gold) if "boxed" in gold or "fbox" in gold else None
    return readable(gold if boxed is None else boxed)


def find_answer(text: str, rule: str, which: str = "last") -> str | None:
    """The final answer by a box rule, None where there is none."""
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
    """One answer a text; a truncated one has none where the rule says ``unparsable``."""
    cut = truncated if truncated is not None and truncated_rule == "unparsable" else [False] * len(texts)
    return [None if c else find_answer(t, rule, which) for t, c in zip(texts, cut, strict=True)]


def check_rules(extract: str, which: str, truncated: str, rules: Sequence[str] = RULES) -> None:
    """Raise UserError where the extraction can not work as asked."""
    check_choice("verifier.extract", extract, rules)
    check_choice("verifier.which", which, ("last", "first"))
    check_choice("verifier.truncated", truncated, ("judge", "unparsable"))
    if extract == "official" and which == "first":
        raise UserError(
            "verifier.which",
            which,
            "has no effect on extract=official",
            "use which=last or extract=boxed",
        )
