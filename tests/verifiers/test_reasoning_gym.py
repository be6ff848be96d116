"""Scores by reasoning-gym: several right answers, part of a score, scorers that hang or fail."""

from __future__ import annotations

import csv
import json
import pickle

import pytest

from nft_lightning.app.parts import build_parts
from nft_lightning.errors import UserError
from nft_lightning.problems.listed import ReasoningGymProblems
from nft_lightning.types import Answer, Completion, Problem
from nft_lightning.verifiers.function import FunctionVerifier
from nft_lightning.verifiers.gym import verifier as gym
from nft_lightning.verifiers.gym.verifier import ReasoningGymVerifier
from nft_lightning.verifiers.simple import ExactVerifier
from nft_lightning.verifiers.weighted import WeightedVerifier

pytest.importorskip("reasoning_gym")


def problem_of(task: str, **options) -> Problem:
    return ReasoningGymProblems(task, size=20, options=options).problems[0]


def boxed(problem: Problem, answer: str, truncated: bool = False) -> Answer:
    return Answer(problem, (), Completion((), f"so \\boxed{{{answer}}}", (), truncated, 0))


@pytest.fixture(scope="module")
def verifier():
    made = ReasoningGymVerifier(timeout_seconds=20.0, continuous=True)
    yield made
    made.close()


def scored(verifier, *answers: Answer) -> list[tuple[str, float | None]]:
    return [(v.outcome, v.score) for v in verifier.score(answers)]


def test_several_right_answers(verifier):
    asked = {"numbers": [3, 4, 5], "target": 17, "expression": "3*4 + 5"}
    extra = {"task": "countdown", "options": {}, "entry": {"answer": "3*4 + 5", "metadata": asked}}
    problem = Problem("countdown", "Make 17 of 3, 4 and 5.", "3*4 + 5", extra=extra)
    answers = [boxed(problem, text) for text in ("3*4 + 5", "5+(4*3)", "3*4 - 5", "17", "nonsense(")]
    assert scored(verifier, *answers) == [
        ("correct", 1.0),
        ("correct", 1.0),
        ("wrong", 0.05),
        ("wrong", 0.05),
        ("wrong", 0.01),
    ]
    assert [v.outcome for v in ExactVerifier().score(answers)][:2] == ["correct", "wrong"]


def test_part_of_a_score(verifier):
    problem = problem_of("prime_factorization", min_value=12, max_value=12)
    texts = [text.replace("*", "\N{MULTIPLICATION SIGN}") for text in ("2 * 2 * 3", "4 * 3", "2 * 3")]
    assert problem.answer == texts[0]
    answers = [boxed(problem, text) for text in texts]
    assert scored(verifier, *answers) == [("correct", 1.0), ("wrong", 0.5), ("wrong", 0.01)]
    binary = ReasoningGymVerifier(timeout_seconds=20.0)
    assert scored(binary, *answers) == [("correct", None), ("wrong", None), ("wrong", None)]
    binary.close()
    assert (verifier.is_continuous(), binary.is_continuous()) == (True, False)


@pytest.mark.parametrize("task", ["chain_sum", "arc_agi", "knights_knaves", "word_ladder"])
def test_the_librarys_own_answer_is_right(verifier, task):
    """arc_agi scores 0.05 where tuples become lists; knights_knaves has a tuple of its own kind."""
    problem = problem_of(task)
    (verdict,) = verifier.score([boxed(problem, problem.answer)])
    assert (verdict.outcome, verdict.score, verdict.extracted) == ("correct", 1.0, problem.answer)


def test_a_task_without_an_answer_of_its_own(verifier):
    problem = problem_of("graph_color")
    assert problem.answer == ""
    puzzle = problem.extra["entry"]["metadata"]["possible_answer"]
    same = dict.fromkeys(puzzle, 1)
    assert scored(verifier, boxed(problem, json.dumps(puzzle)))[0] == ("correct", 1.0)
    assert scored(verifier, boxed(problem, json.dumps(same)))[0][0] == "wrong"
    verifier.check_problems([problem])
    for other in (ExactVerifier(), FunctionVerifier(function=lambda text, gold: True)):
        with pytest.raises(
            UserError, match=r"cannot score graph_color:0, which has no answer of its own"
        ):
            other.check_problems([problem])
    FunctionVerifier(function=lambda answer: True).check_problems([problem])


@pytest.mark.parametrize(
    ("task", "options"),
    [("no_such_task", {}), ("chain_sum", {"min_terms": 0}), ("chain_sum", {"terms": 3})],
)
def test_a_task_that_the_library_refuses(task, options):
    with pytest.raises(UserError, match=r"problems\.task=.* is refused .*options that it takes"):
        problem_of(task, **options)


def test_the_scorer_knows_the_options_of_the_task(verifier):
    """decimal_arithmetic compares to the places that its options give."""
    problem = problem_of("decimal_arithmetic", min_num_decimal_places=1, max_num_decimal_places=1)
    off = str(float(problem.answer) + 0.001)
    assert scored(verifier, boxed(problem, off))[0][0] == "correct"
    fine = problem_of("decimal_arithmetic", min_num_decimal_places=6, max_num_decimal_places=6)
    off = str(float(fine.answer) + 0.001)
    assert scored(verifier, boxed(fine, off))[0][0] == "wrong"


def test_no_answer_and_a_truncated_one(verifier):
    problem = problem_of("chain_sum")
    none = Answer(problem, (), Completion((), "no box", (), False, 0))
    assert scored(verifier, none, boxed(problem, "")) == [("unparsable", None)] * 2
    strict = ReasoningGymVerifier(truncated="unparsable")
    assert scored(strict, boxed(problem, problem.answer, truncated=True)) == [("unparsable", None)]
    assert verifier.score([]) == []


def test_an_answer_that_the_scorer_evaluates_for_ever(verifier, tmp_path):
    """spiral_matrix evaluates an answer as Python: killed at the deadline, and nothing is written."""
    problem, canary = problem_of("spiral_matrix"), tmp_path / "canary"
    impatient = ReasoningGymVerifier(timeout_seconds=1.0, workers=1)
    answers = [
        boxed(problem, problem.answer),
        boxed(problem, "[7**200000000]"),
        boxed(problem, f"[open('{canary}', 'w')]"),
        boxed(problem, "[exit()]"),
        boxed(problem, problem.answer),
    ]
    outcomes = [v.outcome for v in impatient.score(answers)]
    impatient.close()
    assert outcomes == ["correct", "timeout", "wrong", "error", "correct"]
    assert not canary.exists()


def test_a_scorer_that_hangs_or_fails(monkeypatch):
    monkeypatch.setattr(gym, "SCORER", "tests.verifiers.stand_in_scorer")
    problem = problem_of("chain_sum")
    verifier = ReasoningGymVerifier(timeout_seconds=1.0, workers=1, continuous=True)
    answers = [boxed(problem, text) for text in ("hang", "raise", "half")]
    assert scored(verifier, *answers) == [("timeout", None), ("error", None), ("wrong", 0.5)]
    verifier.close()


def test_an_entry_that_the_scorer_cannot_use_is_an_error(verifier):
    extra = {"task": "countdown", "options": {}, "entry": {}}
    nan = {"task": "chain_sum", "options": {}, "entry": {"answer": float("nan")}}
    unknown = {"task": "no_such_task", "options": {}, "entry": {"answer": "5"}}
    for found in (nan, unknown):
        problem = Problem("p", "?", "5", extra=found)
        assert scored(verifier, boxed(problem, "5")) == [("error", None)]
    # This scorer catches what it meets itself, and says wrong.
    assert scored(verifier, boxed(Problem("p", "?", "5", extra=extra), "5")) == [("wrong", 0.01)]


def test_other_problems_are_refused(compose_config):
    verifier = ReasoningGymVerifier()
    with pytest.raises(UserError, match=r"cannot score p-1, which holds no entry of reasoning-gym"):
        verifier.score([boxed(Problem("p-1", "1+1", "2"), "2")])
    with pytest.raises(UserError, match="scores answers to problems of reasoning-gym"):
        verifier.verify(["2"], ["2"])
    parts = {"answer": {"weight": 1.0, "verifier": verifier}}
    with pytest.raises(UserError, match="holds no entry"):
        WeightedVerifier(parts=parts).check_problems([Problem("p-1", "1+1", "2")])
    with pytest.raises(UserError, match=r"use problems=reasoning_gym") as caught:
        build_parts(compose_config("verifier=reasoning_gym", "run_dir=x"))
    assert "holds no entry of reasoning-gym" in str(caught.value)
    fitting = ("problems=reasoning_gym", "verifier=reasoning_gym", "run_dir=x")
    assert build_parts(compose_config(*fitting, "problems.prompt.template=plain"))
    with pytest.raises(UserError, match="gives continuous rewards"):
        build_parts(
            compose_config(*fitting, "problems.prompt.template=plain", "verifier.continuous=true")
        )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"workers": 0}, "workers"),
        ({"timeout_seconds": 0.0}, "timeout_seconds"),
        ({"memory_limit_mb": 1}, "memory_limit_mb"),
        ({"extract": "any"}, "extract"),
        ({"truncated": "drop"}, "truncated"),
    ],
)
def test_bad_options(options, field):
    with pytest.raises(UserError, match=rf"verifier\.{field}="):
        ReasoningGymVerifier(**options)


def test_it_travels_without_its_processes(verifier):
    problem = problem_of("chain_sum")
    copy = pickle.loads(pickle.dumps(verifier))
    assert scored(copy, boxed(problem, problem.answer)) == [("correct", 1.0)]
    copy.close()
    copy.close()


@pytest.mark.slow
def test_a_run(compose_config, quick, tmp_path):
    from nft_lightning.app.run import run

    cfg = compose_config(
        "problems=reasoning_gym",
        "problems.task=chain_sum",
        "problems.prompt.template=plain",
        "verifier=reasoning_gym",
        "verifier.continuous=true",
        "algorithm=grpo",
        "rollout.max_new_tokens=24",
        f"run_dir={tmp_path}",
        *quick,
    )
    assert run(cfg)["epochs"] == 2
    with open(tmp_path / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row.get("verdict/wrong_fraction")]
    assert len(rows) == 2
    assert all(float(row["verdict/error_fraction"]) == 0 for row in rows)
    assert any(float(row["verdict/wrong_fraction"]) > 0 for row in rows)
