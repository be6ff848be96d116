"""Exact, numeric, a function, a weighted sum; and who refuses continuous rewards."""

from __future__ import annotations

import csv
import math
from fractions import Fraction

import pytest

from nft_lightning.app.build import build
from nft_lightning.app.parts import build_parts
from nft_lightning.errors import UserError
from nft_lightning.verifiers.function import FunctionVerifier
from nft_lightning.verifiers.gym.verifier import ReasoningGymVerifier
from nft_lightning.verifiers.math.number import parse_number
from nft_lightning.verifiers.rewards import RewardRules
from nft_lightning.verifiers.simple import ExactVerifier, NumericVerifier
from nft_lightning.verifiers.weighted import WeightedVerifier, has_box

HERE = "tests.verifiers.test_others"


def outcome(verifier, text, gold, **options):
    return verifier.verify([text], [gold], **options)[0].outcome


def test_exact():
    exact = ExactVerifier()
    assert outcome(exact, r"\boxed{1/2}", " 1/2 ") == "correct"
    assert outcome(exact, r"\boxed{0.5}", "1/2") == "wrong"
    assert outcome(exact, "none", "1/2") == "unparsable"
    assert outcome(exact, r"\boxed{1}", " ") == "bad_gold"
    assert outcome(exact, r"\boxed{Yes}", "yes") == "wrong"
    assert outcome(ExactVerifier(ignore_case=True), r"\boxed{Yes}", "yes") == "correct"
    assert outcome(ExactVerifier(extract="whole"), " yes\n", "yes") == "correct"
    official = ExactVerifier(extract="official")
    assert outcome(official, r"\boxed{5}" + "x" * 92, "5") == "unparsable"
    assert (
        outcome(ExactVerifier(truncated="unparsable"), r"\boxed{5}", "5", truncated=[True])
        == "unparsable"
    )
    with pytest.raises(UserError, match=r"verifier\.extract='any'"):
        ExactVerifier(extract="any")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", Fraction(12)),
        ("-1,234.5", Fraction(-2469, 2)),
        ("+.5", Fraction(1, 2)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"-\dfrac{3}{4}", Fraction(-3, 4)),
        ("3/4", Fraction(3, 4)),
        (r"50\%", Fraction(1, 2)),
        (r"4.5 \times 10^{3}", Fraction(4500)),
        (r"2\cdot 10^-2", Fraction(1, 50)),
        (r"\$5", Fraction(5)),
        ("1/0", None),
        ("1,23", None),
        ("five", None),
        ("1 2", None),
        ("9" * 2000, None),
    ],
)
def test_numbers(text, value):
    assert parse_number(text) == value


def test_numeric():
    numeric = NumericVerifier(relative_tolerance=0.01)
    assert outcome(numeric, r"\boxed{3.13}", "3.14") == "correct"
    assert outcome(numeric, r"\boxed{3.10}", "3.14") == "wrong"
    assert outcome(numeric, r"\boxed{3.14e0}", "3.14") == "correct"
    assert outcome(numeric, r"\boxed{x}", "3.14") == "unparsable"
    assert outcome(numeric, r"\boxed{3}", "x") == "bad_gold"
    assert outcome(NumericVerifier(absolute_tolerance=1), r"\boxed{1}", "0") == "correct"
    assert outcome(NumericVerifier(), r"\boxed{1}", "0") == "wrong"
    for name in ("relative_tolerance", "absolute_tolerance"):
        with pytest.raises(UserError, match=f"verifier.{name}=-1"):
            NumericVerifier(**{name: -1.0})


def contains(completion: str, gold: str) -> bool:
    return gold in completion


def share(completion: str, gold: str) -> float:
    return len(completion) / len(gold)


def fails(completion: str, gold: str) -> bool:
    raise ValueError("on purpose")


def odd(completion: str, gold: str) -> object:
    return {"n": math.nan, "t": "1", "0": None}.get(completion, 0.5)


def test_a_function():
    verifier = FunctionVerifier(function=f"{HERE}.contains")
    assert [v.outcome for v in verifier.verify(["a 5", "b"], ["5", "5"])] == ["correct", "wrong"]
    assert outcome(FunctionVerifier(function=f"{HERE}.fails"), "5", "5") == "error"
    strict = FunctionVerifier(function=f"{HERE}.odd")
    assert [v.outcome for v in strict.verify(list("nt0x"), ["1"] * 4)] == ["error"] * 4
    loose = FunctionVerifier(function=f"{HERE}.share", continuous=True)
    verdicts = loose.verify(["ab", "abcd"], ["abcd", "abcd"])
    assert [(v.outcome, v.score) for v in verdicts] == [("wrong", 0.5), ("correct", 1.0)]
    cut = FunctionVerifier(function=f"{HERE}.contains", truncated="unparsable")
    assert outcome(cut, "5", "5", truncated=[True]) == "unparsable"


@pytest.mark.parametrize("name", ["nowhere.at_all", "json.nothing", "plain", f"{HERE}.HERE"])
def test_a_function_that_is_none(name):
    with pytest.raises(UserError, match=r"verifier\.function"):
        FunctionVerifier(function=name)


def weighted(**rewards):
    return WeightedVerifier(
        parts={
            "answer": {"weight": 1.0, "verifier": ExactVerifier(rewards=RewardRules(**rewards))},
            "boxed": {
                "weight": 0.25,
                "verifier": FunctionVerifier(function=f"{has_box.__module__}.has_box"),
            },
        }
    )


def test_a_weighted_sum():
    right, wrong, none = weighted().verify([r"\boxed{5}", r"\boxed{6}", "5"], ["5"] * 3)
    assert (right.outcome, right.score, right.parts) == ("correct", 1.25, {"answer": 1.0, "boxed": 1.0})
    assert (wrong.outcome, wrong.score) == ("wrong", 0.25)
    assert (none.outcome, none.score, none.extracted) == ("unparsable", 0.0, None)
    assert math.isnan(weighted().verify([r"\boxed{5}"], [""])[0].score)
    assert math.isnan(weighted(wrong=None).verify([r"\boxed{6}"], ["5"])[0].score)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"a": 1},
        {"a": {"weight": 1.0}},
        {"a": {"weight": "much", "verifier": ExactVerifier()}},
        {"a": {"weight": math.inf, "verifier": ExactVerifier()}},
        {"a": {"weight": 1.0, "verifier": 5}},
    ],
)
def test_a_sum_of_nothing_sensible(parts):
    with pytest.raises(UserError, match=r"verifier\.parts"):
        WeightedVerifier(parts=parts)


def test_the_config_builds_the_parts(compose_config):
    verifier = build(compose_config("verifier=weighted").verifier, "verifier")
    assert [type(j).__name__ for j in verifier.verifiers.values()] == [
        "MathVerifier",
        "FunctionVerifier",
    ]
    with pytest.raises(UserError, match=r"verifier\.parts\.answer\.verifier\.worker"):
        build(
            compose_config("verifier=weighted", "+verifier.parts.answer.verifier.worker=1").verifier,
            "verifier",
        )


@pytest.mark.parametrize("chosen", ["weighted", "callable"])
def test_binary_algorithms_refuse_continuous_rewards(compose_config, chosen):
    extra = ["verifier.function=operator.eq", "verifier.continuous=true"] if chosen == "callable" else []
    for algorithm in ("nft", "rft"):
        with pytest.raises(UserError, match="gives continuous rewards") as caught:
            build_parts(
                compose_config(f"verifier={chosen}", f"algorithm={algorithm}", "run_dir=x", *extra)
            )
        assert "verifier=math_verify" in str(caught.value)
    for algorithm in ("grpo", "nft_continuous"):
        # A sum of 1 and 0.1 is above 1; rounding is not.
        weight = ["verifier.parts.answer.weight=0.9000001"] if chosen == "weighted" else []
        taken = compose_config(
            f"verifier={chosen}", f"algorithm={algorithm}", "run_dir=x", *extra, *weight
        )
        assert build_parts(taken)


def test_rewards_outside_0_and_1_are_refused_before_a_run(compose_config):
    for given, said in (
        (["verifier=weighted"], "gives rewards from 0 to 1.1, but ContinuousNFT needs them in"),
        (["verifier.rewards.wrong=-1"], "gives rewards from -1 to 1, but ContinuousNFT"),
    ):
        cfg = compose_config("algorithm=nft_continuous", "run_dir=x", *given)
        with pytest.raises(UserError, match=said) as caught:
            build_parts(cfg)
        assert "verifier.parts" in str(caught.value)
        cfg.algorithm = compose_config("algorithm=grpo").algorithm
        assert build_parts(cfg)


def test_a_verifier_says_where_its_rewards_lie():
    rules = RewardRules(correct=2.0, wrong=-0.5, timeout=None)
    exact = ExactVerifier(rewards=rules)
    assert exact.reward_range() == (-0.5, 2.0)
    anything = FunctionVerifier(function=max, continuous=True)
    assert anything.reward_range() is None
    parts = {"a": {"weight": -2.0, "verifier": exact}, "b": {"weight": 1.0, "verifier": ExactVerifier()}}
    assert WeightedVerifier(parts=parts).reward_range() == (-4.0, 2.0)
    parts["b"]["verifier"] = anything
    assert WeightedVerifier(parts=parts).reward_range() is None
    assert ReasoningGymVerifier(continuous=True).reward_range() == (0.0, 1.0)
    nothing = RewardRules(*[None] * 6)
    assert ExactVerifier(rewards=nothing).reward_range() is None


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo", "dapo"])
def test_a_run_with_a_weighted_sum_logs_its_parts(compose_config, quick, tmp_path, algorithm):
    from nft_lightning.app.run import run
    from tests.test_house import documented_metrics

    run(compose_config("verifier=weighted", f"algorithm={algorithm}", f"run_dir={tmp_path}", *quick))
    with open(tmp_path / "metrics.csv") as file:
        rows = [r for r in csv.DictReader(file) if r.get("verdict/part_answer_mean")]
    assert rows
    for row in rows:
        answer, boxed = float(row["verdict/part_answer_mean"]), float(row["verdict/part_boxed_mean"])
        assert answer == pytest.approx(float(row["verdict/correct_fraction"]))
        assert float(row["rollout/accuracy"]) == pytest.approx(answer + 0.1 * boxed, abs=1e-4)
    assert "verdict/part_{name}_mean" in documented_metrics()
