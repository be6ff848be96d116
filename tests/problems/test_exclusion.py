"""Problems that training must not see."""

from __future__ import annotations

import json
import logging

import pytest

from nft_lightning.errors import UserError
from nft_lightning.problems.exclusion import SHIPPED, excluded, selected, text_hash
from nft_lightning.problems.listed import JsonlProblems
from nft_lightning.types import Problem

PROBLEMS = [Problem(f"p-{i}", f"What is {i} + {i}?", str(2 * i)) for i in range(10)]


def listed(tmp_path, text: str) -> str:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return str(path)


def test_by_id_and_by_text(tmp_path, caplog):
    given = listed(tmp_path, f"# why\np-3 # this one\nother {text_hash('WHAT is 7+7')}\n")
    with caplog.at_level(logging.INFO):
        found = selected(PROBLEMS, given, None)
    assert [p.id for p in found] == [f"p-{i}" for i in (0, 1, 2, 4, 5, 6, 8, 9)]
    assert "of 10 problems 2 are left out" in caplog.text


def test_case_spaces_and_punctuation_do_not_hide_a_problem():
    assert text_hash("Find $x^2$, please.") == text_hash("find x ^ 2 PLEASE")
    assert text_hash("Find x2") != text_hash("Find x3")


def test_by_length():
    assert len(selected([*PROBLEMS, Problem("long", "x" * 30, "1")], None, 29)) == 10


def test_nothing_excluded_leaves_all():
    assert selected(PROBLEMS, None, None) == PROBLEMS


def test_a_list_that_is_not_there():
    with pytest.raises(
        UserError, match=r"problems\.exclude='dapo' is neither a file nor a shipped list"
    ):
        selected(PROBLEMS, "dapo", None)


def test_nothing_left():
    with pytest.raises(UserError, match="leave none of 10 problems"):
        selected(PROBLEMS, None, 3)


def test_the_shipped_list_has_an_id_and_a_hash_for_each():
    lines = (SHIPPED / "dapo_math_17k.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    assert len(rows) == 31
    assert all(row[0].startswith("dapo-") and len(row[1]) == 16 and len(row) == 2 for row in rows)
    assert {word for row in rows for word in row} == excluded("dapo_math_17k")


def test_a_source_leaves_them_out_of_training_and_of_what_it_holds_out(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text(
        "".join(json.dumps({"id": p.id, "problem": p.text, "answer": p.answer}) + "\n" for p in PROBLEMS)
    )
    given = listed(tmp_path, "p-0 p-1 p-2")
    source = JsonlProblems(str(path), held_out_fraction=0.5, exclude=given)
    seen = {p.id for part in source.split for p in part}
    assert seen == {f"p-{i}" for i in range(3, 10)}
