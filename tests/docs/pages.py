"""The pages that people read, and the code in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
# What a shell block, or none that names a language, begins with.
SHELL = ("", "bash", "sh", "console")


@dataclass(frozen=True)
class Block:
    """Fenced code: its page, its language and its text."""

    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.strip().splitlines()[0][:50] if self.text.strip() else ''}"


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> list[Block]:
    """Return the fenced code of these languages."""
    found = []
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
            if language in languages:
                found.append(Block(name(page), language, text))
    return found


def prose(page: Path) -> str:
    """Return a page's text without its fenced code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def lines_of_shell() -> list[tuple[str, str]]:
    """Return each line of shell that a page shows, in a block or in backticks, with the page's name.

    Lines that end in a backslash are joined. The help texts in conf/ count as pages.
    """
    found = []
    for block in blocks(*SHELL):
        joined = block.text.replace("\\\n", " ")
        found += [(block.page, line.strip()) for line in joined.splitlines() if line.strip()]
    for page in PAGES:
        found += [(name(page), code.strip()) for code in INLINE.findall(prose(page))]
    for file in ("train", "evaluate", "plan"):
        header = str(OmegaConf.load(ROOT / "conf" / f"{file}.yaml").hydra.help.header)
        for line in header.splitlines():
            found.append((f"conf/{file}.yaml", re.split(r"\s{3,}", line.strip())[0]))
    return found


def words(line: str) -> list[str]:
    """Return a line's words as a shell would read them, comments and prompts left out.

    Environment variables before the command, ``srun`` and what it sets, and ``...`` are left out too.
    """
    try:
        found = shlex.split(line.removeprefix("$ ").replace("$'", "'"), comments=True)
    except ValueError:  # prose in backticks
        return []
    while found and (re.fullmatch(r"[A-Z_]+=.*", found[0]) or found[0] == "eval"):
        found = found[1:]
    if found[:1] == ["srun"]:
        start = next((i for i, word in enumerate(found) if word.startswith("nft-")), len(found))
        found = found[start:]
    end = next((i for i, word in enumerate(found) if word in ("&", "|", ">", ";", "<")), len(found))
    return [word for word in found[:end] if word != "..."]


def commands(prefix: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the page and the words of each command whose first word begins with ``prefix``."""
    found = {}
    for page, line in lines_of_shell():
        given = words(line)
        if given and given[0].startswith(prefix) and (len(given) > 1 or " " not in line):
            found[(*given,)] = page
    return [(page, given) for given, page in found.items()]
