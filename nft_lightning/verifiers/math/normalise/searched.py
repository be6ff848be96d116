"""E-notation in a whole text, for math-verify's own search: it would take 4.5e33 for 4.5."""

from __future__ import annotations

import re

from nft_lightning.verifiers.math.normalise.numerals import E_NOTATION, as_power

MATHS = re.compile(
    r"(\$\$?[^$]*\$\$?|\\\([^\n]*?\\\)|\\\[.*?\\\]|\\boxed\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})", re.DOTALL
)


def with_powers_marked(text: str) -> str:
    r"""Return ``text`` with E-notation as a power of ten, between ``$`` where it is in prose.

    >>> with_powers_marked("it is 4.5e33, or $x = 2e3$")
    'it is $4.5 \\times 10^{33}$, or $x = 2 \\times 10^{3}$'
    """
    parts = MATHS.split(text)
    for place, part in enumerate(parts):
        if place % 2:
            parts[place] = E_NOTATION.sub(as_power, part)
        else:
            parts[place] = E_NOTATION.sub(lambda match: f"${as_power(match)}$", part)
    return "".join(parts)
