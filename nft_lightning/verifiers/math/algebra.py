"""When two expressions are the same by algebra: simplified, unless their values are far apart."""

from __future__ import annotations

from typing import Any

import sympy
from math_verify import grader

simplified_equal = grader.sympy_symbolic_eq

DIGITS = 15
FAR = 1e-6
MOST_SYMBOLS = 8
# No special values: what is equal here only by chance is nothing that anybody writes.
FIRST, STEP = sympy.Rational(7243, 9973), sympy.Rational(3719, 8831)
SLOW = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)


def equal(gold: Any, answer: Any) -> bool:
    """Return True where the difference simplifies to nothing; False at once where it is large.

    Stands in for ``math_verify.grader.sympy_symbolic_eq``.
    """
    return not far_at_a_point(gold, answer) and bool(simplified_equal(gold, answer))


def far_at_a_point(gold: Any, answer: Any) -> bool:
    """Return True where two expressions have values that differ, for one choice of their symbols."""
    if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
        return False
    if gold.has(*SLOW) or answer.has(*SLOW):
        return False
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    if len(symbols) > MOST_SYMBOLS:
        return False
    point = {symbol: FIRST + STEP * place for place, symbol in enumerate(symbols)}
    try:
        mine, theirs = (side.evalf(DIGITS, subs=point) for side in (answer, gold))
        if not (mine.is_number and theirs.is_number and mine.is_finite and theirs.is_finite):
            return False
        return bool(abs(mine - theirs) > FAR * (1 + abs(theirs)))
    except (TypeError, AttributeError, ValueError, NotImplementedError, ArithmeticError):
        return False
