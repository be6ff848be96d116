"""The small tables of fields in the pages: every name of the class or function is there, in order."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re

import pytest

from tests.docs.pages import PAGES, name

# A row begins with `one` name, or with `one`, `two`.
TABLE = re.compile(r"<!-- fields: ([\w.]+) -->\n\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n)+)")
FOUND = [(name(p), *found) for p in PAGES for found in TABLE.findall(p.read_text(encoding="utf-8"))]


def fields(dotted: str) -> list[str]:
    """Return the fields of a dataclass, else the parameters of what is called, without ``self``."""
    module, _, last = dotted.rpartition(".")
    found = getattr(importlib.import_module(module), last)
    if dataclasses.is_dataclass(found):
        return [field.name for field in dataclasses.fields(found)]
    call = found.__init__ if inspect.isclass(found) else found
    parameters = inspect.signature(call).parameters.values()
    return [p.name for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD]


def named(rows: str) -> list[str]:
    """Return the names in the first column."""
    first = [row.split("|")[1] for row in rows.strip().splitlines()]
    return [code for cell in first for code in re.findall(r"`(\w+)`", cell)]


def test_every_mark_has_its_table():
    marks = sum(page.read_text(encoding="utf-8").count("<!-- fields:") for page in PAGES)
    assert marks == len(FOUND) >= 8


@pytest.mark.parametrize(("page", "dotted", "rows"), FOUND, ids=[f"{p} {d}" for p, d, _ in FOUND])
def test_a_table_has_every_field(page, dotted, rows):
    assert named(rows) == fields(dotted)
