"""Finding the final answer in a completion."""

from __future__ import annotations


def last_boxed(text: str) -> str | None:
    r"""The contents of the last complete ``\boxed{...}`` or ``\fbox{...}``, braces balanced."""
    best = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    while best >= 0:
        start = text.index("{", best) + 1
        depth = 1
        for position in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[start:position].strip()
        best = max(text.rfind("\\boxed{", 0, best), text.rfind("\\fbox{", 0, best))
    return None
