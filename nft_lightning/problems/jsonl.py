"""Problems from a JSON Lines file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nft_lightning.errors import UserError
from nft_lightning.problems.values import NotTextError, is_blank, other_columns, text_of
from nft_lightning.types import Problem

SHAPE = 'give each line as {"problem": ..., "answer": ...}'


def read_jsonl(path: str, field: str) -> list[Problem]:
    """Return the problems of a file.

    Raises:
        UserError: a line is bad, or an id appears twice; names the first such line.
    """
    if not Path(path).is_file():
        raise UserError(field, path, "is not a file", "give a JSON Lines file")
    found: dict[str, tuple[int, Problem]] = {}
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                problem = parse_line(line, path, number, field)
                if problem.id in found:
                    raise UserError(
                        field,
                        path,
                        f"has the id {problem.id!r} at lines {found[problem.id][0]} and {number}",
                        "give every problem an id of its own, or none",
                    )
                found[problem.id] = number, problem
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            field, path, f"cannot be read ({error})", "give a readable file in UTF-8"
        ) from error
    if not found:
        raise UserError(field, path, "holds no problem", "give a file with a JSON object on each line")
    return [problem for _, problem in found.values()]


def parse_line(line: str, path: str, number: int, field: str) -> Problem:
    """Return one line as a problem.

    Raises:
        UserError: it is no object with a problem and an answer in text or numbers.
    """
    row = parse_object(line, path, number, field)
    for name in ("problem", "answer"):
        if name not in row:
            raise UserError(field, path, f"lacks {name} at line {number}", SHAPE)
    given = {name: row.get(name) for name in ("problem", "answer", "solution", "id")}
    texts = {}
    for name, value in given.items():
        if name in ("solution", "id") and is_blank(value):
            continue
        try:
            texts[name] = text_of(value)
            texts[name].encode()
        except NotTextError as error:
            raise UserError(
                field, path, f"has a value for {name} that {error} at line {number}", remedy(name, value)
            ) from error
        except UnicodeEncodeError as error:
            raise UserError(
                field,
                path,
                f"holds half a surrogate pair, which UTF-8 cannot hold, at line {number}",
                "correct or remove that line",
            ) from error
    name = texts.get("id", f"line-{number}")
    extra = other_columns(row, given)
    return Problem(name, texts["problem"], texts["answer"], texts.get("solution"), extra)


def parse_object(line: str, path: str, number: int, field: str) -> dict[str, Any]:
    """Return a line's JSON object.

    Raises:
        UserError: it is none, or none that Python can read.
    """
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise UserError(
            field, path, f"is nested too deeply at line {number}", "write problem and answer as text"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            field, path, f"is not JSON at line {number}", "write one JSON object a line"
        ) from error
    except ValueError as error:
        raise UserError(
            field, path, f"holds an integer of thousands of digits at line {number}", "write it as text"
        ) from error
    if not isinstance(row, dict):
        raise UserError(field, path, f"holds no object at line {number}", SHAPE)
    return row


def remedy(name: str, value: Any) -> str:
    """Return what to do about a value that is no text."""
    if isinstance(value, list):
        return f"write {name} as one text, such as '1, 2'"
    return f"write {name} as text, or leave the line out"
