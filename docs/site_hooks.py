"""What the documentation site has beside docs/: generated pages, and files of the repository.

mkdocs calls the functions whose names begin with on_.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT))

# Where files that docs/ links to, and that lie outside of it, are on the site.
ELSEWHERE = "repository"
LINK = re.compile(r"(\]\()([^)\s#]+)")
GENERATED = re.compile(r"<!-- generated: (\w+) -->.*?<!-- end -->", re.DOTALL)


def outside(page: Path, link: str) -> Path | None:
    """Return the path in the repository of a file that a page links to outside of docs/."""
    if "://" in link or link.startswith("mailto:"):
        return None
    path = Path(os.path.normpath(page.parent / link))
    if not path.is_relative_to(ROOT) or path.is_relative_to(DOCS):
        return None
    return path.relative_to(ROOT)


def on_files(files: Files, config: Any) -> Files:
    """Add the files of the repository that pages link to."""
    wanted: dict[str, Path] = {}
    for page in DOCS.rglob("*.md"):
        for _, link in LINK.findall(page.read_text(encoding="utf-8")):
            path = outside(page, link)
            if path is not None and (ROOT / path).is_file():
                wanted[f"{ELSEWHERE}/{path.as_posix()}"] = ROOT / path
    for name, path in wanted.items():
        if path.suffix == ".md":
            text = rewritten(path.read_text(encoding="utf-8"), path, name)
            files.append(File.generated(config, name, content=text))
        else:
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def rewritten(text: str, page: Path, place: str) -> str:
    """Return a page whose links outside of docs/ lead to where these files are on the site.

    Args:
        text: the page's. page: its file. place: its place on the site, relative to docs/.
    """

    def moved(match: re.Match[str]) -> str:
        path = outside(page, match[2])
        if path is None:
            return match[0]
        return match[1] + os.path.relpath(f"{ELSEWHERE}/{path.as_posix()}", Path(place).parent)

    return LINK.sub(moved, text)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in what is generated, and mend the links that leave docs/."""
    source = page.file.abs_src_path
    if source and Path(source).is_relative_to(DOCS):
        markdown = rewritten(markdown, Path(source), page.file.src_uri)
    return GENERATED.sub(lambda match: MAKERS[match[1]](), markdown)


def configuration() -> str:
    """Return a table of keys, defaults and meanings for each node of the config."""
    from nft_lightning.cli.reference import tables

    return tables()


def interface() -> str:
    """Return mkdocstrings' directive for each public name, by the folder that it comes from."""
    import nft_lightning

    lines = []
    for module, names in sorted(nft_lightning.ROOMS.items()):
        lines += [f"## {module}", ""]
        for name in names.split():
            lines += [f"::: nft_lightning.{module}.{name}", ""]
    return "\n".join(lines)


MAKERS = {"configuration": configuration, "interface": interface}
