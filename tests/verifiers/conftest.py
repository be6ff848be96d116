from __future__ import annotations

import pytest
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
from math_verify import grader

from nft_lightning.verifiers.math import expressions


@pytest.fixture(scope="module")
def as_in_a_worker():
    """In this process, what a worker installs; taken back afterwards."""
    numeric, symbolic = grader.sympy_numeric_eq, grader.sympy_symbolic_eq
    product = _Latex2Sympy.convert_postfix_list
    expressions.install()
    yield
    grader.sympy_numeric_eq, grader.sympy_symbolic_eq = numeric, symbolic
    _Latex2Sympy.convert_postfix_list = product
