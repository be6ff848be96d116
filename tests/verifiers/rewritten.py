"""Golds as another writer would put them, and golds made wrong; None where that is not possible."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Rewriting = Callable[[str], str | None]

NUMBER = re.compile(r"-?[\d.]+")
WORDS_BEHIND = re.compile(r"(?<=\d)\s*\\(?:text|mbox)\s*\{[^{}]*\}(\^\d)?$")
RELATIONS = (("\\leq", "\\geq"), ("\\le ", "< "), ("\\ge ", "> "), ("<", "\\le "), (">", "\\ge "))


def replaced(pattern: str, by: str) -> Rewriting:
    """Return a rewriting that applies where ``pattern`` is found."""
    return lambda gold: re.sub(pattern, by, gold) if re.search(pattern, gold) else None


def number_with(before: str = "", after: str = "") -> Rewriting:
    """Return a rewriting that puts text around a plain number other than 0."""

    def rewrite(gold: str) -> str | None:
        plain = NUMBER.fullmatch(gold) and float(gold) != 0
        return before + gold + after if plain else None

    return rewrite


def with_commas(gold: str) -> str | None:
    return f"{int(gold):,}" if re.fullmatch(r"-?\d{4,12}", gold) else None


def in_dollars(gold: str) -> str | None:
    return f"${gold}$" if "$" not in gold else None


def sized_brackets(gold: str) -> str | None:
    if "(" not in gold or "\\left" in gold:
        return None
    return gold.replace("(", "\\left(").replace(")", "\\right)")


EQUAL: dict[str, Rewriting] = {
    "as it is": lambda gold: gold,
    "dfrac": replaced(r"\\frac", r"\\dfrac"),
    "between dollars": in_dollars,
    "spaces around": lambda gold: f" {gold} ",
    "a thin space behind": lambda gold: gold + "\\,",
    "no space behind commas": replaced(", ", ","),
    "displaystyle": lambda gold: f"\\displaystyle {gold}" if "$" not in gold else None,
    "sized brackets": sized_brackets,
    "plain brackets": replaced(r"\\(?:left|right)(?=[()\[\]])", ""),
    "a full stop": lambda gold: gold + ".",
    "point zero": replaced(r"^(-?\d{1,9})$", r"\1.0"),
    "x =": replaced(r"^(-?[\d.]+|-?\\frac\{\d+\}\{\d+\})$", r"x = \1"),
    "commas": with_commas,
    "without its unit": replaced(WORDS_BEHIND.pattern, ""),
    "without degrees": replaced(r"(?<=\d)\^\{?\\circ\}?$", ""),
    "base in braces": replaced(r"^(\d+)_(\d+)$", r"\1_{\2}"),
    "a slash": replaced(r"^\\frac\{(\d+)\}\{(\d+)\}$", r"\1/\2"),
    "as a power of ten": replaced(r"^(-?[\d.]+)e(-?)0*(\d+)$", r"\1 \\times 10^{\2\3}"),
    "with a unit": replaced(r"^(-?[\d.]+(?:e-?\d+)?)$", r"\1\\text{ m}"),
}


def another_relation(gold: str) -> str | None:
    """One relation for another, or an interval without its end."""
    for old, new in RELATIONS:
        if old in gold:
            return gold.replace(old, new, 1)
    closed = re.search(r"(?<!\\left)\[(?=[^\[\]]*,[^\[\]]*[\])])", gold)
    return f"{gold[: closed.start()]}({gold[closed.end() :]}" if closed else None


def another_exponent(gold: str) -> str | None:
    power = re.search(r"\^\{?(\d+)\}?", gold)
    if power:
        return f"{gold[: power.start()]}^{{{int(power[1]) + 1}}}{gold[power.end() :]}"
    scientific = re.fullmatch(r"(-?[\d.]+)e(-?\d+)", gold)
    return f"{scientific[1]}e{int(scientific[2]) - 3}" if scientific else None


def another_base(gold: str) -> str | None:
    based = re.fullmatch(r"(-?[\d.]+_\{?)(\d+)(\}?)", gold)
    return f"{based[1]}{int(based[2]) + 1}{based[3]}" if based else None


def one_term_less(gold: str) -> str | None:
    if ", " in gold and not re.search(r"[()\[\]\\{}]", gold):
        return gold.rsplit(", ", 1)[0]
    total = re.fullmatch(r"([^(){}\[\],=]+?)\s*[+-]\s*[^+\-(){}\[\],=]+", gold)
    return total[1] if total else None


def another_digit(gold: str) -> str | None:
    places = [i for i, character in enumerate(gold) if character.isdigit()]
    if not places:
        return None
    rng = random.Random(gold)
    place = rng.choice(places)
    digit = (int(gold[place]) + rng.randint(1, 9)) % 10
    return f"{gold[:place]}{digit}{gold[place + 1 :]}"


WRONG: dict[str, Rewriting] = {
    "another relation": another_relation,
    "another exponent": another_exponent,
    "another base": another_base,
    "one term less": one_term_less,
    "another digit": another_digit,
    "negative": number_with("-"),
    "million": number_with(after=r" \text{ million}"),
    "a relation in front": number_with("> "),
    "not equal": number_with(r"\neq "),
    "or another": number_with(after=r" \text{ or } 12345.6"),
    "dots behind": number_with(after=r", \ldots"),
    "a variable behind": number_with(after="t"),
    "without its variable": replaced(r"^(-?\d+)[a-z]$", r"\1"),
    "a derivative": replaced(r"f\(x\)|(?<![a-zA-Z\\])y(?![a-zA-Z])", "f'(x)"),
}


def rewritten(golds: list[str], kinds: dict[str, Rewriting]) -> list[tuple[str, str, str]]:
    """Return (kind, answer, gold) for every gold and every kind that applies to it."""
    rows = []
    for kind, rewrite in kinds.items():
        for gold in golds:
            answer = rewrite(gold)
            if answer is not None and (answer != gold or kind == "as it is"):
                rows.append((kind, answer, gold))
    return rows
