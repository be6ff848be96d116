"""Links between pages: files and anchors are there, and no picture is left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, name, prose

LINK = re.compile(r"\]\(([^)\s]+)\)")
PICTURES = (".png", ".svg", ".gif", ".jpg", ".webp", ".pdf")
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


def test_every_picture_is_shown():
    shown = set()
    for page in PAGES:
        for link in LINK.findall(prose(page)):
            shown.add((page.parent / link.partition("#")[0]).resolve())
    folders = (DOCS, ROOT / "benchmarks" / "results")
    pictures = [path for folder in folders for path in folder.rglob("*") if path.suffix in PICTURES]
    assert len(pictures) > 5
    assert not [name(path) for path in pictures if path.resolve() not in shown]


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 220
