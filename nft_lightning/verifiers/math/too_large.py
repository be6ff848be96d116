"""Numbers that nobody can write out: recognised before they are computed, not at the deadline."""

from __future__ import annotations

from typing import Any

from sympy import factorial
from sympy.core.numbers import Integer

from nft_lightning.verifiers.math.private_sympy import guard_powers

# Python needs some 20 s for a power of this size, and some 15 s for such a factorial.
LARGEST_POWER_BITS = 2**26
LARGEST_FACTORIAL = 2_000_000


class TooLarge(BaseException):
    """Would not be done by any deadline. Not an Exception: math-verify continues after those."""


def install() -> None:
    """Let sympy raise :class:`TooLarge` where an integer power or a factorial would take for ever."""
    guard_powers(guarded_power)
    factorial.eval = classmethod(guarded_factorial(factorial.eval.__func__))


def guarded_power(power: Any) -> Any:
    """``power(base, exponent)`` with a look at the size of the result."""

    def checked(base: Any, exponent: Any) -> Any:
        if isinstance(exponent, Integer):
            bits = max(int(base.p).bit_length(), int(base.q).bit_length()) - 1
            if bits * abs(int(exponent.p)) > LARGEST_POWER_BITS:
                raise TooLarge
        return power(base, exponent)

    return checked


def guarded_factorial(evaluate: Any) -> Any:
    """``factorial.eval`` with a look at its argument."""

    def checked(cls: Any, n: Any) -> Any:
        if isinstance(n, Integer) and int(n.p) > LARGEST_FACTORIAL:
            raise TooLarge
        return evaluate(cls, n)

    return checked
