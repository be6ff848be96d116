"""A row of a data set as a problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from nft_lightning.errors import UserError
from nft_lightning.problems.values import NotTextError, is_blank, other_columns, text_of
from nft_lightning.types import Problem


class Columns(Protocol):
    """Where a row's texts are; :class:`nft_lightning.problems.listed.HubProblems` is one."""

    @property
    def path(self) -> str:
        """Return the data set."""
        ...

    @property
    def problem_field(self) -> str:
        """Return the problems' column."""
        ...

    @property
    def answer_field(self) -> str:
        """Return the answers' column."""
        ...

    @property
    def solution_field(self) -> str | None:
        """Return the column of worked solutions, if there is one."""
        ...

    @property
    def answer_after(self) -> str | None:
        """Return the mark that an answer follows."""
        ...


def problem_of_row(row: Mapping[str, Any], number: int, columns: Columns) -> Problem:
    """Return row ``number`` as a problem; its solution is None where the cell is blank.

    Raises:
        UserError: a cell holds no text, or an answer has no mark; names row and column.
    """
    solution = row[columns.solution_field] if columns.solution_field else None
    field = "problem_field"
    try:
        text = text_of(row[columns.problem_field])
        field = "answer_field"
        answer = answer_text(row[columns.answer_field], columns.answer_after)
        field = "solution_field"
        worked = None if is_blank(solution) else text_of(solution)
    except NotTextError as error:
        raise UserError(
            f"problems.source.{field}",
            getattr(columns, field),
            f"{error} in row {number} of {columns.path}",
            "leave such rows out of the data set, or use another column",
        ) from error
    used = (columns.problem_field, columns.answer_field, columns.solution_field)
    return Problem(f"{columns.path}:{number}", text, answer, worked, other_columns(row, used))


def answer_text(value: Any, after: str | None) -> str:
    """Return a cell's answer: what follows the mark, without one pair of dollars around it.

    Raises:
        NotTextError: there is no text, or no mark in it.
    """
    if isinstance(value, list) and value:
        return ", ".join(answer_text(member, after) for member in value)
    text = text_of(value, lists=True)
    if after:
        _, mark, text = text.rpartition(after)
        if not mark:
            raise NotTextError(f"holds no {after!r}")
    text = text.strip()
    inner = text[1:-1]
    if text[:1] == text[-1:] == "$" and inner and "$" not in inner:
        text = inner.strip()
    return text_of(text)
