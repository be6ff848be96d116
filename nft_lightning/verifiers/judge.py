"""math-verify's verdict on one answer. Runs in a worker, which is killed when it takes too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

from math_verify import parse, verify
from math_verify.parser import (
    ExprExtractionConfig,
    LatexExtractionConfig,
    extract_match,
    get_extraction_regexes,
)

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
)

Parsed = list[Any]


def judge(how: str, answer: str, gold: str) -> tuple[str, str | None]:
    """The outcome, and for a search over the whole text what was found.

    ``how`` names the search for the answer and how the gold is written, ``any+text`` for example;
    ``box`` means that the text is the inside of a box.
    """
    rule, _, gold_form = how.partition("+")
    golds = parse_gold(gold, gold_form)
    if not golds:
        return "bad_gold", None
    if rule == "gold":
        return "correct", None
    answers = parse_answer(rule, answer)
    shown = None if rule == "box" or not answers else str(answers[-1])[:SHOWN_CHARACTERS]
    return (compare(golds, answers) if answers else "unparsable"), shown


@lru_cache(maxsize=GOLDS_KEPT)
def parse_gold(gold: str, form: str) -> Parsed:
    """The gold, read once: an ``answer`` as the inside of a box, a ``text`` by math-verify's search."""
    return parse_text(f"\\boxed{{{gold}}}" if form == "answer" else gold, "any")


def parse_answer(rule: str, answer: str) -> Parsed:
    """What math-verify reads in the answer: expressions and the text they came from."""
    if rule == "box":
        return parse_text(f"\\boxed{{{answer}}}", "any")
    kind, _, which = rule.partition("-")
    return parse_text(answer, kind) if which == "last" else parse_first(answer, kind)


def parse_text(text: str, kind: str) -> Parsed:
    """math-verify's own search, without its alarms: the pool keeps the deadline."""
    found: Parsed = parse(
        text, extraction_config=TARGETS[kind], parsing_timeout=None, raise_on_error=True
    )
    return found


def parse_first(text: str, kind: str) -> Parsed:
    """As math-verify searches, but of matches with equal priority the first in the text."""
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


def compare(golds: Parsed, answers: Parsed) -> str:
    """math-verify's verdict: right where any reading of the gold equals any of the answer.

    What math-verify can not compare is not equal; what ran out of memory or stack is an error.
    """
    failed = False
    for gold, answer in product(golds, answers):
        try:
            if verify(gold, answer, timeout_seconds=None, raise_on_error=True):
                return "correct"
        except (MemoryError, RecursionError):
            failed = True
        except Exception:
            continue
    return "error" if failed else "wrong"


def warm_up() -> Sequence[Callable[[], object]]:
    """Steps that fill the parser's caches, so that new workers start with them."""
    return [lambda text=text: judge("box+answer", text, text) for text in WARM_UP]  # type: ignore[misc]
