"""Text of a model that a page can show: nothing hidden, nothing that turns the lines around it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

KEPT = "\n\t"
MOST_CHARACTERS = 20_000
INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def visible(text: str) -> str:
    """Control, direction and zero-width characters by their code, such as ``<U+202E>``."""
    return INVISIBLE.sub(lambda m: m[0] if m[0] in KEPT else f"<U+{ord(m[0]):04X}>", text)


def shortened(text: str, most: int = MOST_CHARACTERS) -> tuple[str, int]:
    """Return the first ``most`` characters, and how many are left out; no letter is parted from its
    accents.
    """
    if len(text) <= most:
        return text, 0
    stop = most
    while stop > most - 16 and unicodedata.combining(text[stop]):
        stop -= 1
    return text[:stop], len(text) - stop


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return what each token adds to the text; a character of several tokens belongs to the last of
    them.
    """

    def decode(part: Sequence[int]) -> str:
        text: str = tokenizer.decode(
            list(part), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    found: list[str] = []
    begin = read = 0
    for i in range(len(ids)):
        before, now = decode(ids[begin:read]), decode(ids[begin : i + 1])
        unfinished = now.endswith("\ufffd") and i - read < 4
        if unfinished or len(now) <= len(before):
            found.append("")
        else:
            found.append(now[len(before) :])
            begin, read = read, i + 1
    return found
