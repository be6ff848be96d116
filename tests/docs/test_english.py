"""Plain English in what people read: the words of a list do not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name

THINGS = (
    r"rollouts?|runs?|ranks?|tokens?|seconds?|problems?|completions?|answers?|GPUs?|groups?|updates?"
    r"|iterations?|sequences?|rows?|rounds?|epochs?|steps?|threads?|lines?"
)
INSTEAD = {
    r"\bcan not\b": "cannot",
    r"\btold apart\b": "significantly different, or distinguished",
    r"\bgoes on\b": "continues",
    r"\bmade anew\b": "made again",
    rf"\b(?:{THINGS}) a (?:{THINGS})\b": "per",
    r"\bplays the\b": "holds the",
    r"\bproves that\b": "checks that",
}
TEXTS = [
    *PAGES,
    *sorted((ROOT / "conf").rglob("*.yaml")),
    *sorted((ROOT / "nft_lightning").rglob("*.py")),
]
GENERATED = {"conformance.md"}


@pytest.mark.parametrize("path", [path for path in TEXTS if path.name not in GENERATED], ids=name)
def test_the_words_of_the_list_are_gone(path: Path):
    text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
    found = [
        f"{match[0]!r}: say {better}"
        for pattern, better in INSTEAD.items()
        for match in re.finditer(pattern, text)
    ]
    assert not found
