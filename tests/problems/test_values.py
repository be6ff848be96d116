"""What data sets hold where text was meant is refused, by line or row; equal ids too."""

from __future__ import annotations

import io
import json
from typing import NamedTuple

import numpy as np
import pytest
import torch

from nft_lightning.errors import UserError
from nft_lightning.problems.base import check_ids
from nft_lightning.problems.jsonl import read_jsonl
from nft_lightning.problems.listed import HubProblems, JsonlProblems
from nft_lightning.problems.values import NotTextError, built_in, plain, text_of
from nft_lightning.types import Problem


def file_of(tmp_path, *lines):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("NaN", "answer that is NaN at line 2"),
        ("Infinity", "answer that is infinite at line 2"),
        ("-Infinity", "answer that is infinite at line 2"),
        ("true", "answer that is true, not text at line 2"),
        ("null", "answer that is null at line 2"),
        ('["1", "2"]', "answer that is a list at line 2.*write answer as one text, such as '1, 2'"),
        ("[]", "answer that is a list at line 2"),
        ('{"value": 1}', "answer that is an object at line 2"),
        ('""', "answer that is empty at line 2"),
        ('" "', "answer that is empty at line 2"),
        ("1" * 5000, "holds an integer of thousands of digits at line 2"),
        ("[" * 100_000 + "]" * 100_000, "is nested too deeply at line 2"),
        ("7}, {", "is not JSON at line 2"),
    ],
)
def test_an_answer_that_is_no_text(tmp_path, value, says):
    path = file_of(tmp_path, '{"problem": "a", "answer": 7}', f'{{"problem": "b", "answer": {value}}}')
    with pytest.raises(UserError, match=says):
        read_jsonl(path, "problems.path")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"problem": "b"}', "lacks answer at line 1"),
        ('{"answer": "b"}', "lacks problem at line 1"),
        ('["b", "c"]', "holds no object at line 1"),
        ('{"problem": null, "answer": "1"}', "problem that is null at line 1"),
        ('{"problem": "b", "answer": "1", "solution": {"text": 1}}', "solution that is an object"),
        ('{"problem": "b", "answer": "1", "id": [1]}', "id that is a list at line 1"),
    ],
)
def test_a_line_that_is_no_problem(tmp_path, line, says):
    with pytest.raises(UserError, match=says):
        read_jsonl(file_of(tmp_path, line), "problems.path")


def test_numbers_are_text_and_blank_cells_are_none(tmp_path):
    lines = (
        '{"problem": "a", "answer": 7, "solution": null, "id": null}',
        '{"problem": "b", "answer": 0.5, "solution": NaN, "id": NaN}',
        '{"problem": "c", "answer": "x", "solution": " ", "id": 7}',
    )
    found = read_jsonl(file_of(tmp_path, *lines), "problems.path")
    assert found == [
        Problem("line-1", "a", "7", None),
        Problem("line-2", "b", "0.5", None),
        Problem("7", "c", "x", None),
    ]


def test_equal_ids_are_refused_by_line(tmp_path):
    rows = [{"id": name, "problem": str(i), "answer": "1"} for i, name in enumerate(["x", "y", 3, "3"])]
    path = file_of(tmp_path, *map(json.dumps, rows))
    with pytest.raises(UserError, match="has the id '3' at lines 3 and 4"):
        JsonlProblems(path)
    # A name that a line without an id gets counts too.
    path = file_of(
        tmp_path, '{"id": "line-2", "problem": "a", "answer": 1}', '{"problem": "b", "answer": 2}'
    )
    with pytest.raises(UserError, match="has the id 'line-2' at lines 1 and 2"):
        read_jsonl(path, "problems.path")


def test_equal_ids_of_any_source_are_refused():
    problems = [Problem("a", "x", "1"), Problem("a", "y", "2")]
    with pytest.raises(UserError, match="id='a' appears twice in one set"):
        check_ids(problems)


@pytest.mark.parametrize(
    ("value", "says"),
    [(b"0", "of type bytes"), (None, "null"), ([None], "a list")],
)
def test_values_of_other_kinds(value, says):
    with pytest.raises(NotTextError, match=says):
        text_of(value)


def test_an_integer_that_cannot_be_written():
    with pytest.raises(NotTextError, match="integer of thousands of digits"):
        text_of(10**5000)


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def save(**columns):
        folder = tmp_path / "data"
        folder.mkdir()
        pq.write_table(pa.table(columns), folder / "train.parquet")
        return str(folder)

    return save


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["1", None], "is null in row 1"),
        ([1.0, float("nan")], "is NaN in row 1"),
        ([True, False], "is true, not text in row 0"),
        ([{"value": "0"}, {"value": "1"}], "is an object in row 0"),
        ([b"0", b"1"], "is of type bytes in row 0"),
        (["1", ""], "is empty in row 1"),
        ([["1"], []], "is an empty list in row 1"),
        ([["1"], ["x", None]], "is null in row 1"),
    ],
)
def test_hub_answers_that_are_no_text(parquet, column, says):
    path = parquet(problem=["a", "b"], answer=column)
    with pytest.raises(UserError, match=f"answer_field='answer' {says}"):
        _ = HubProblems(path).problems


def test_hub_problems_that_are_no_text(parquet):
    path = parquet(problem=[[{"role": "user", "content": "a"}]], answer=["1"])
    with pytest.raises(UserError, match="problem_field='problem' is a list in row 0"):
        _ = HubProblems(path).problems


def test_a_hub_answer_without_its_mark(parquet):
    path = parquet(problem=["a", "b"], answer=["so #### 7", "so it is 8"])
    with pytest.raises(UserError, match=r"holds no '####' in row 1"):
        _ = HubProblems(path, answer_after="####").problems


def test_hub_rows_without_a_solution_have_none(parquet):
    path = parquet(problem=["a", "b", "c"], answer=["1", "2", "3"], solution=["s", None, ""])
    found = HubProblems(path, solution_field="solution").problems
    assert [p.solution for p in found] == ["s", None, None]


class Point(NamedTuple):
    x: int
    y: float


class Name(str):
    pass


def test_subclasses_of_plain_data_become_plain_data():
    """A checkpoint refuses what is not built in."""
    given = {Name("a"): [Point(1, np.float64(0.5)), True, None, Name("b")], 3: (Name("c"), {})}
    assert plain(given)
    found = built_in(given)
    assert found == {"a": [(1, 0.5), True, None, "b"], 3: ("c", {})}
    assert repr(found) == "{'a': [(1, 0.5), True, None, 'b'], 3: ('c', {})}"
    written = io.BytesIO()
    torch.save(found, written)
    written.seek(0)
    assert torch.load(written, weights_only=True) == found
