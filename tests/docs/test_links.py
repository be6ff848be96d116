"""Links between pages: files and anchors are there, and no picture is left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, name, prose

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return a page's anchors, as GitHub makes them from its headings."""
    found = set()
    for heading in HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    broken = []
    for link in LINK.findall(prose(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_picture_of_docs_is_shown():
    text = "\n".join(page.read_text() for page in PAGES)
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".png", ".svg", ".gif")]
    assert pictures
    assert not [path.name for path in pictures if path.name not in text]


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 220
