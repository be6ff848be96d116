r"""The words around an answer that say only that it is one: ``The answer is``, ``\approx``, ``=``."""

from __future__ import annotations

import re

LEAD = (
    r"(?:(?:so|thus|hence|therefore)\s*,?\s*)?(?:the\s+)?(?:final\s+|correct\s+)?"
    r"(?:answer|result|solution)s?"
)
LEAD_IN = re.compile(
    rf"(?:\\text\{{\s*{LEAD}\s*(?:is|are|=|:)?\s*:?\s*\}}\s*[:=]?|{LEAD}\s*(?:is|are|=|:)\s*:?)\s*",
    re.IGNORECASE,
)
IN_TEXT = re.compile(rf"\\text\{{\s*{LEAD}\s*(?:is|are|=|:)\s*:?\s*([^{{}}]+)\}}", re.IGNORECASE)
ABOUT = re.compile(
    r"(?:\\(?:approx|sim|simeq|cong|doteq|thickapprox)(?![a-zA-Z])"
    r"|\\text\{\s*(?:approximately|approx|about|roughly|around)\s*\.?\s*\}"
    r"|(?:approximately|approx|about|roughly|around)\.?\s|~|=)\s*",
    re.IGNORECASE,
)


def without_sentence(text: str) -> str:
    r"""Return ``text`` without a lead-in, and without the sign or word of an approximation before it.

    A relation such as ``>`` or ``\neq`` stays: it says that the answer is something else.

    >>> without_sentence(r"\text{The answer is } 5"), without_sentence(r"\approx 3.14")
    ('5', '3.14')
    >>> without_sentence("> 7")
    '> 7'
    """
    whole = IN_TEXT.fullmatch(text)
    if whole is not None:
        text = whole[1].strip()
    for pattern in (LEAD_IN, ABOUT):
        match = pattern.match(text)
        if match is not None and match.end() < len(text):
            text = text[match.end() :]
    return text
