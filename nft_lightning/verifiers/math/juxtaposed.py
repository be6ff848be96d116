"""What is written side by side is a product: math-verify takes 2(3) for 2 + 3, as in a mixed number."""

from __future__ import annotations

from typing import Any

import sympy

from nft_lightning.verifiers.math.private_sympy import Latex2Sympy


def product_of(parser: Any, factors: list[Any], begin: int = 0) -> Any:
    """Return the product of what is written side by side; in place of ``convert_postfix_list``.

    Mixed numbers have been written as fractions before. A derivative is of all that follows it.
    """
    first = parser.convert_postfix(factors[begin])
    if begin == len(factors) - 1:
        if isinstance(first, list):
            raise ValueError("a derivative of nothing")
        return first
    rest = product_of(parser, factors, begin + 1)
    if isinstance(first, list):
        return sympy.Derivative(rest, first[0])
    if not isinstance(first, sympy.Expr | sympy.MatrixBase):
        raise ValueError("what stands beside something has to be an expression")
    if getattr(first, "is_Matrix", False) or getattr(rest, "is_Matrix", False):
        return parser.mat_mul_flat(first, rest)
    return parser.mul_flat(first, rest)


def install() -> None:
    """Let math-verify's parser multiply what is written side by side."""
    Latex2Sympy.convert_postfix_list = product_of
