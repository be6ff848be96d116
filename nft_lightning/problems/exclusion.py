"""Problems that must not be trained on, by id and by text, and those that are too long."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from nft_lightning.errors import UserError
from nft_lightning.types import Problem

SHIPPED = Path(__file__).parent / "excluded"
log = logging.getLogger(__name__)


def selected(
    problems: Sequence[Problem], exclude: str | None, max_characters: int | None
) -> list[Problem]:
    """Return the problems that are left.

    Args:
        problems: in their own order, which stays.
        exclude: a shipped list's name or a file, each line an id and, if it is known, the
            :func:`text_hash` of its problem; either is enough to leave a problem out.
        max_characters: longest text.

    Raises:
        UserError: no such list, or nothing is left.
    """
    listed = excluded(exclude) if exclude else frozenset()
    found = [p for p in problems if not listed or not {p.id, text_hash(p.text)} & listed]
    short = [p for p in found if max_characters is None or len(p.text) <= max_characters]
    if len(short) < len(problems):
        log.info(
            "of %d problems %d are left out by problems.exclude=%s and %d by problems.max_characters=%s",
            len(problems),
            len(problems) - len(found),
            exclude,
            len(found) - len(short),
            max_characters,
        )
    if not short:
        raise UserError(
            "problems.exclude, problems.max_characters",
            [exclude, max_characters],
            f"leave none of {len(problems)} problems",
            "exclude less",
        )
    return short


def excluded(name: str) -> frozenset[str]:
    """Ids and text hashes of a list."""
    shipped = {path.stem: path for path in SHIPPED.glob("*.txt")}
    path = shipped.get(name, Path(name))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "problems.exclude",
            name,
            "is neither a file nor a shipped list",
            f"use {', '.join(sorted(shipped))}, or a file with an id on each line",
        ) from error
    return frozenset(word for line in lines for word in line.partition("#")[0].split())


def text_hash(text: str) -> str:
    """16 hexadecimal digits of a text's letters and digits, whatever their case and what is between."""
    plain = "".join(character for character in text.casefold() if character.isalnum())
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
