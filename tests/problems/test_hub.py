from __future__ import annotations

import json

import pytest

from nft_lightning.errors import UserError
from nft_lightning.problems.listed import HubProblems

pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def saved(tmp_path, *rows):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def read(path, **more):
    return [(p.text, p.answer) for p in HubProblems(path, split_name="test", **more).problems]


def test_the_answer_follows_the_mark(tmp_path):
    path = saved(
        tmp_path,
        {"question": "a", "answer": "3 #### 4 is 7\n#### 1,319"},
        {"question": "b", "answer": "#### -2"},
    )
    found = read(path, problem_field="question", answer_after="####")
    assert found == [("a", "1,319"), ("b", "-2")]


def test_lists_of_answers_are_joined_and_dollars_taken_off(tmp_path):
    path = saved(
        tmp_path,
        {"problem": "a", "final_answer": ["$2$"]},
        {"problem": "b", "final_answer": ["$x=1$", "$x=-1$"]},
        {"problem": "c", "final_answer": ["$1$ or $2$"]},
    )
    found = read(path, answer_field="final_answer")
    assert found == [("a", "2"), ("b", "x=1, x=-1"), ("c", "$1$ or $2$")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"problem_field": "question"}, "'question'.*are not columns of"),
        ({"split_name": "validation"}, "problems.path=.* cannot be loaded .*check the name"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, given, words):
    path = saved(tmp_path, {"problem": "a", "answer": "1"})
    with pytest.raises(UserError, match=words):
        _ = HubProblems(path, **{"split_name": "test", **given}).problems


def test_a_name_that_can_not_be_had_is_named():
    with pytest.raises(UserError, match=r"problems\.path='no/such-set' cannot be loaded"):
        _ = HubProblems("no/such-set").problems
