"""The verdict on one answer. Runs in a worker, which is killed when it takes too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from math_verify import parse
from math_verify.parser import (
    ExprExtractionConfig,
    LatexExtractionConfig,
    extract_match,
    get_extraction_regexes,
)

from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.math import expressions, too_large
from nft_lightning.verifiers.math.compare import compare
from nft_lightning.verifiers.math.expressions import equal_expressions, parse_whole
from nft_lightning.verifiers.math.reading import Reading, read

GOLDS_KEPT = 4096
SHOWN_CHARACTERS = 1000
TARGETS = {
    "any": (LatexExtractionConfig(), ExprExtractionConfig()),
    "latex": (LatexExtractionConfig(),),
    "expression": (ExprExtractionConfig(),),
}
WARM_UP = (
    r"\frac{1}{2}",
    r"2\sqrt{3}+1.5",
    r"x=-3^{2}",
    r"\pi",
    r"(1,2)",
    r"[0,\infty)",
    r"\{1,2\}",
    r"\begin{pmatrix}1\\2\end{pmatrix}",
    r"\text{even}",
    "even",
    r"\left(3,\frac{\pi}{2}\right)",
    r"50\%",
    "3x^{2}-2xy+y-1",
    r"\frac{3+\sqrt{5}}{4n}",
    r"(-\infty,-\frac{1}{2})\cup[0,1]",
    r"\begin{pmatrix}1&-2\\0&\frac{1}{3}\end{pmatrix}",
    "x+2y-z+5=0",
    r"y=-\frac{5}{2}x+4",
    r"\log_{2}\left(\frac{3}{4}\right)+\sin\frac{\pi}{3}",
    "(-4,7,3)",
    "3-2i",
    r"2\pi r^{3}, n!",
    r"1<x\le 3",
)

Parsed = list[Any]


def judge(how: str, answer: str, gold: str) -> Verdict:
    """Return the verdict on one job; what no deadline would see done is a timeout now."""
    try:
        outcome, extracted = score(how, answer, gold)
    except too_large.TooLarge:
        return Verdict("timeout")
    return Verdict(outcome, extracted)


def prepare() -> Sequence[Callable[[], object]]:
    """Make sympy and math-verify refuse what is too large; return steps that fill the caches."""
    too_large.install()
    expressions.install()
    return warm_up()


def score(how: str, answer: str, gold: str) -> tuple[str, str | None]:
    """Return the outcome, and for a search over the whole text what was found.

    ``how`` names the search for the answer and how the gold is written, ``any+text`` for example;
    ``box`` means that the text is the inside of a box.
    """
    rule, _, gold_form = how.partition("+")
    if rule == "box" and gold_form == "answer":
        return judge_box(answer, gold), None
    golds = parse_gold(gold, gold_form)
    if not golds:
        return "bad_gold", None
    if rule == "gold":
        return "correct", None
    answers = parse_answer(rule, answer)
    shown = None if rule == "box" or not answers else str(answers[-1])[:SHOWN_CHARACTERS]
    return (compare_found(golds, answers) if answers else "unparsable"), shown


def judge_box(answer: str, gold: str) -> str:
    """Return the verdict on the inside of a box against a gold answer."""
    theirs = read_gold(gold)
    if not says_something(theirs):
        return "bad_gold"
    mine = read(answer)
    return compare(mine, theirs) if says_something(mine) else "unparsable"


@lru_cache(maxsize=GOLDS_KEPT)
def read_gold(gold: str) -> Reading:
    """Return a gold, read once."""
    return read(gold)


def says_something(reading: Reading) -> bool:
    """Return True where more than signs was written."""
    return any(character.isalnum() for character in reading.text)


@lru_cache(maxsize=GOLDS_KEPT)
def parse_gold(gold: str, form: str) -> Parsed:
    """Return what is read in a gold: an ``answer`` as a whole, a ``text`` by a search."""
    return whole(gold) if form == "answer" else search(gold, "any")


def parse_answer(rule: str, answer: str) -> Parsed:
    """Return what is read in an answer: an expression, and the text that it came from."""
    if rule == "box":
        return whole(answer)
    kind, _, which = rule.partition("-")
    return search(answer, kind) if which == "last" else search_first(answer, kind)


def whole(text: str) -> Parsed:
    """Return the expression that the inside of a box is, and its text."""
    reading = read(text)
    if not says_something(reading):
        return []
    expression = parse_whole(reading.core) if reading.clear else None
    return [reading.core] if expression is None else [expression, reading.core]


def search(text: str, kind: str) -> Parsed:
    """Return what math-verify's own search finds, without its alarms: the pool keeps the deadline."""
    found: Parsed = parse(
        text, extraction_config=TARGETS[kind], parsing_timeout=None, raise_on_error=True
    )
    return found


def search_first(text: str, kind: str) -> Parsed:
    """Return what math-verify would find, but of matches with equal priority the first in the text."""
    patterns = sorted(
        (
            (priority, pattern, target)
            for found, target in get_extraction_regexes(TARGETS[kind])
            for pattern, priority in found
        ),
        key=lambda item: item[0],
    )
    for level in sorted({priority for priority, _, _ in patterns}):
        matches = [
            (match, target)
            for priority, pattern, target in patterns
            if priority == level
            for match in pattern.finditer(text)
        ]
        for match, target in sorted(matches, key=lambda m: (m[0].start(), -m[0].end())):
            expression, shown = extract_match(match, target)
            if expression is not None:
                return [expression, shown]
    return []


def compare_found(golds: Parsed, answers: Parsed) -> str:
    """Return ``correct`` where any reading of the gold equals any of the answer."""
    for gold in golds:
        for answer in answers:
            if equal_expressions(gold, answer):
                return "correct"
    return "wrong"


def warm_up() -> Sequence[Callable[[], object]]:
    """Return steps that fill the parser's caches, so that new workers start with them."""
    golds = (*WARM_UP[1:], WARM_UP[0])
    return [
        lambda text=text, gold=gold: (
            score("box+answer", text, f"1+{text}"),
            score("box+answer", text, gold),
        )  # type: ignore[misc]
        for text, gold in zip(WARM_UP, golds, strict=True)
    ]
