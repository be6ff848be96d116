"""math-verify's parser and its comparison, for the whole of an answer and nothing less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import (
    NormalizationConfig,
    is_expr_of_only_symbols,
    normalize_latex,
)
from math_verify import grader, verify
from math_verify.parser import parse_latex_cached

from nft_lightning.verifiers.math import algebra, juxtaposed, relative
from nft_lightning.verifiers.math.normalise.lists import pieces
from nft_lightning.verifiers.math.private_sympy import chain

# Units, dots and boxes are not its to drop: they have been read before.
LAYOUT = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
)
APPROXIMATELY = "\\approx"
ROUNDED = 0.02


def install() -> None:
    """Let math-verify compare numbers by their size, and multiply what is written side by side."""
    grader.sympy_numeric_eq = relative.equal
    grader.sympy_symbolic_eq = algebra.equal
    juxtaposed.install()


def parse_whole(text: str) -> Any | None:
    """Return the expression that the whole of ``text`` is, None where it is none.

    Of an approximation that is its first side that has a value: 2/3 of 2/3 = 0.67, roughly.

    Raises:
        MemoryError, RecursionError: the worker's limits.
    """
    if APPROXIMATELY not in text or len(pieces(text)) > 1:
        return parse_one(text)
    sides = [parse_one(side) for side in text.split(APPROXIMATELY)]
    if any(side is None for side in sides) or any(map(far_apart, sides, sides[1:])):
        return None
    return next((side for side in sides if not is_expr_of_only_symbols(side)), sides[0])


def parse_one(text: str) -> Any | None:
    """Return the expression that ``text`` is, None where the parser cannot read all of it."""
    try:
        return parse_latex_cached(normalize_latex(text, LAYOUT))
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return None


def equal_expressions(gold: Any, answer: Any) -> bool:
    """Return math-verify's verdict on two expressions; what it cannot compare is not equal.

    Raises:
        MemoryError, RecursionError: the worker's limits.
    """
    if is_false_chain(answer):
        return False
    try:
        return bool(
            verify(gold, answer, timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True)
        )
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False


def is_false_chain(expression: Any) -> bool:
    """Return True for equations of numbers that are not equal, such as 8 = 7; of a chain, any link."""
    return any(far_apart(link.lhs, link.rhs) for link in links(expression))


def far_apart(left: Any, right: Any) -> bool:
    """Return True for two numbers of which neither can be the other, rounded."""
    if not all(isinstance(side, sympy.Expr) and side.is_number for side in (left, right)):
        return False
    left, right = sympy.N(left), sympy.N(right)
    near = left.is_finite and right.is_finite and abs(left - right) <= ROUNDED * abs(right)
    return not near


def links(expression: Any) -> Sequence[Any]:
    """Return the equations of a chain."""
    return [part for part in chain(expression) if isinstance(part, sympy.Eq)]
