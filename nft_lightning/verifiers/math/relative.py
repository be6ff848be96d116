"""When two numbers are equal: exact ones exactly, decimals to six places and five digits."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from math_verify.grader import get_pct_val
from sympy import Basic, Float, MatrixBase, Number, Rational

from nft_lightning.verifiers.math.number import PLACES, RELATIVE, close

DIGITS = 15
TINY = 1e-9
EXACT_RELATIVE = 1e-12
NOT_COMPUTED = (TypeError, AttributeError, ValueError, NotImplementedError, ZeroDivisionError)


def equal(gold: Any, answer: Any, float_rounding: int = 6, numeric_precision: int = DIGITS) -> bool:
    """Return True where two expressions of sympy have one value, element by element for matrices.

    Stands in for ``math_verify.grader.sympy_numeric_eq``, which rounds to six places whatever the size,
    so that 6.6e-34 equals 1.6e-19, and takes for zero what is below 1e-15.
    """
    if isinstance(gold, MatrixBase) or isinstance(answer, MatrixBase):
        return equal_matrices(gold, answer)
    faces = [(gold, answer)]
    if (get_pct_val(gold) is None) != (get_pct_val(answer) is None):  # 50% is 1/2, and 50
        faces.append((get_pct_val(gold, gold), get_pct_val(answer, answer)))
    return any(equal_values(*face) for face in faces)


def equal_matrices(gold: Any, answer: Any) -> bool:
    """Return True for matrices of one shape whose elements are equal."""
    gold, answer = done(gold), done(answer)
    if (
        not (isinstance(gold, MatrixBase) and isinstance(answer, MatrixBase))
        or gold.shape != answer.shape
    ):
        return False
    return all(equal(mine, his) for mine, his in zip(gold.flat(), answer.flat(), strict=True))


def equal_values(gold: Any, answer: Any) -> bool:
    """Return True for two expressions of one value; what cannot be computed is not equal."""
    decimal = has_decimals(gold) or has_decimals(answer)
    gold, answer = exact(gold), exact(answer)
    try:
        if isinstance(gold, Rational) and isinstance(answer, Rational):
            return equal_rationals(gold, answer, decimal)
        if gold.is_number and answer.is_number:
            return equal_numbers(gold, answer, decimal)
        return equal_expressions(gold, answer)
    except NOT_COMPUTED:
        return False


def has_decimals(value: Any) -> bool:
    """Return True where a decimal takes part."""
    return isinstance(value, Basic) and bool(value.atoms(Float))


def exact(value: Any) -> Any:
    """Return a value computed, with its decimals as the fractions that they are written as."""
    if has_decimals(value):
        value = value.xreplace({f: Rational(str(f)) for f in value.atoms(Float) if f.is_finite})
    return done(value)


def done(value: Any) -> Any:
    """Return a value computed, itself where sympy cannot."""
    try:
        return value.doit()
    except NOT_COMPUTED:
        return value


def equal_rationals(gold: Rational, answer: Rational, decimal: bool) -> bool:
    """Return True for the same fraction, or a decimal that is close."""
    if gold == answer or not decimal:
        return bool(gold == answer)
    return close(Fraction(int(answer.p), int(answer.q)), Fraction(int(gold.p), int(gold.q)))


def equal_numbers(gold: Any, answer: Any, decimal: bool) -> bool:
    """Return True for numbers such as roots that differ by nothing, or a decimal that is close."""
    difference, size = abs(gold - answer).evalf(DIGITS), abs(gold).evalf(DIGITS)
    if not (difference.is_finite and size.is_finite):
        return False
    if decimal:
        return bool(difference <= float(PLACES) and difference <= float(RELATIVE) * size)
    return bool(difference < 10.0**-DIGITS and difference <= EXACT_RELATIVE * size)


def equal_expressions(gold: Any, answer: Any) -> bool:
    """Return True for expressions whose difference vanishes, coefficient by coefficient.

    Rounding makes a tiny coefficient vanish: where there is one, only the algebra that follows counts.
    """
    numbers = gold.evalf(DIGITS).atoms(Number) | answer.evalf(DIGITS).atoms(Number)
    if any(n.is_finite and n != 0 and abs(n) < TINY for n in numbers):
        return False
    return bool((gold - answer).evalf(chop=True, n=DIGITS) == 0)
