"""Private names of sympy's and of latex2sympy2's, which no other file touches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy as Latex2Sympy
from sympy import Integer, Rational

__all__ = ["Latex2Sympy", "chain", "guard_powers"]


def guard_powers(guarded: Callable[[Any], Any]) -> None:
    """Replace the powers of numbers by what ``guarded`` makes of them."""
    for kind in (Integer, Rational):
        kind._eval_power = guarded(kind._eval_power)


def chain(expression: Any) -> Sequence[Any]:
    """Return the parts of a chain of relations, in the order in which they were written."""
    return getattr(expression, "_unsorted_args", None) or [expression]
