"""A CSV file that grows by whole rows, gets new columns, and is cut back before a resume."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from nft_lightning.checkpoints.folder import flush
from nft_lightning.common.files import write_text_whole
from nft_lightning.records.writing import written


class Table:
    """Whole rows only, also after a kill.

    Args:
        path: the file, which the first row makes.
        rule: what an error of the disk means, see :func:`.written`.
    """

    def __init__(self, path: Path, rule: str) -> None:
        self.path, self.rule = path, rule
        self.waiting: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.rows = 0

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, which waits for :meth:`save`."""
        self.waiting.append(row)
        self.rows += 1

    def save(self) -> None:
        """Append what waits; new columns rewrite the file beside the old one and replace it."""
        if not self.waiting:
            return
        with written(self.path, self.rule):
            names = sorted({*self.names, *(k for row in self.waiting for k in row)})
            if names != self.names or not self.path.exists():
                self.replace(names, [*self.read(), *self.waiting])
            else:
                with open(self.path, "a", newline="", encoding="utf-8") as file:
                    file.write(text_of(names, self.waiting))
            self.waiting, self.names = [], names

    def read(self) -> list[dict[str, Any]]:
        """Return the rows of the file."""
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def replace(self, names: list[str], rows: list[dict[str, Any]]) -> None:
        """Write the whole file again, in one step."""
        write_text_whole(self.path, text_of(names, [dict(zip(names, names, strict=True)), *rows]))

    def position(self) -> int:
        """Return rows so far, safe on the disk."""
        self.save()
        if self.path.exists():
            flush(self.path)
        return self.rows

    def cut(self, position: int) -> None:
        """Forget the rows behind ``position``."""
        rows = self.read()[:position] if position else []
        self.rows, self.waiting = len(rows), []
        # Columns that only came later go with the rows: the file is as it was.
        self.names = sorted(k for k in (rows[0] if rows else ()) if any(row.get(k) for row in rows))
        if rows:
            self.replace(self.names, rows)
        else:
            self.path.unlink(missing_ok=True)


def text_of(names: list[str], rows: list[dict[str, Any]]) -> str:
    """Return lines of CSV."""
    out = io.StringIO(newline="")
    csv.DictWriter(out, names, extrasaction="ignore").writerows(rows)
    return out.getvalue()
