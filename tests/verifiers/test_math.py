from __future__ import annotations

import json
import logging

import pytest

from nft_lightning.errors import UserError
from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.math.verifier import MathVerifier
from nft_lightning.verifiers.rewards import RewardRules
from tests.verifiers.rewritten import EQUAL, WRONG, rewritten

SETS = ("aime24", "aime25", "amc23", "gsm8k_test", "math500", "olympiadbench", "minerva_math")


@pytest.fixture(scope="module")
def verifier():
    made = MathVerifier(timeout_seconds=30)
    yield made
    made.close()


def outcomes(verifier, pairs, **options):
    texts, golds = zip(*pairs, strict=True)
    return [v.outcome for v in verifier.verify(texts, golds, **options)]


PAIRS = [
    ("1,000", "1000", "correct"),
    (r"\frac12", "0.5", "correct"),
    (r"5\text{ cm}", "5", "correct"),
    ("18.90", r"\$18.90", "correct"),
    ("x=5", "5", "correct"),
    ("5", "x=5", "correct"),
    (r"\{2,1\}", r"\{1,2\}", "correct"),
    ("(2,1)", "(1,2)", "wrong"),
    ("[1,2]", "(1,2)", "wrong"),
    ("even", r"\text{even}", "correct"),
    (r"\text{odd}", r"\text{even}", "wrong"),
    (r"\text{(A)}", "A", "correct"),
    (r"50\%", "50", "correct"),
    (r"\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", "correct"),
    ("0.333333", r"\frac{1}{3}", "correct"),
    ("0.33333", r"\frac{1}{3}", "wrong"),
    ("$5$", "5", "correct"),
    ("5", "$5$", "correct"),
    ("5", r"\boxed{5}", "correct"),
    ("5", r"So we get $\boxed{5}$.", "correct"),
    (r"4.5 \times 10^{33}", "4.5e33", "correct"),
    ("4.50e33", "4.5e33", "correct"),
    ("4500", "4.5e3", "correct"),
    ("4.5", "4.5e33", "wrong"),
    ("5", "", "bad_gold"),
    ("5", r"\frac{1}{", "bad_gold"),
    ("5", "$ $", "bad_gold"),
    ("5", r"\text{}", "bad_gold"),
]


def test_verdicts(verifier):
    found = outcomes(verifier, [(f"\\boxed{{{a}}}", g) for a, g, _ in PAIRS])
    assert [(a, g, o) for (a, g, _), o in zip(PAIRS, found, strict=True)] == PAIRS


def test_the_answer_and_the_seconds_come_along(verifier):
    quick, slow, none = verifier.verify([r"\boxed{ 7 }", r"\boxed{x+1}", "no box"], ["7", "1+x", "7"])
    assert (quick.extracted, slow.extracted, none.extracted) == ("7", "x+1", None)
    assert 0 < quick.seconds < slow.seconds < 30


def test_equal_pairs_are_judged_once(verifier, monkeypatch):
    seen = []
    monkeypatch.setattr(
        verifier.pool, "run", lambda jobs: seen.extend(jobs) or [Verdict("wrong")] * len(jobs)
    )
    verdicts = verifier.verify([r"\boxed{x}", r"so \boxed{x}", r"\boxed{y}"], ["z", "z", "z"])
    assert [v.extracted for v in verdicts] == ["x", "x", "y"]
    assert len(seen) == 2


def test_extraction_rules():
    text = r"First $7$, then \boxed{8}. At last \boxed{9}. " + "x" * 100
    searched = "The sum is $3$, so the answer is $4$"
    for options, case, expected in (
        ({}, text, "9"),
        ({"which": "first"}, text, "8"),
        ({"extract": "any"}, searched, "4"),
        ({"extract": "any", "which": "first"}, "It is $3$ or it is $4$", "3"),
        ({"extract": "latex"}, "It is $3$ or 4", "3"),
        ({"extract": "expression"}, "It is $3$ or 4", "4"),
    ):
        made = MathVerifier(timeout_seconds=30, **options)
        verdict = made.verify([case], [expected])[0]
        made.close()
        assert (verdict.outcome, verdict.extracted) == ("correct", expected), options
    official = MathVerifier(extract="official")
    assert official.verify([text], ["9"])[0].outcome == "unparsable"
    assert official.verify([r"\boxed{9} is it"], ["9"])[0].outcome == "correct"


def test_truncated_completions():
    lenient, strict = MathVerifier(), MathVerifier(truncated="unparsable")
    pairs = [(r"\boxed{7}", "7"), (r"\boxed{8}", "8")]
    assert outcomes(lenient, pairs, truncated=[True, False]) == ["correct", "correct"]
    assert outcomes(strict, pairs, truncated=[True, False]) == ["unparsable", "correct"]
    assert outcomes(strict, pairs) == ["correct", "correct"]
    searching = MathVerifier(extract="any", truncated="unparsable")
    assert outcomes(searching, [("$7$", "7")], truncated=[True]) == ["unparsable"]


ANY = [
    ("The answer is $\\frac{1}{2}$.", "$0.5$"),
    ("I get 7", "7"),
    ("\\boxed{3} but really $4$", "3"),
    ("\\boxed{3} but really $4$", "4"),
    ("The final answer is 12. I hope it is correct.", "$12$"),
    ("no number at all", "5"),
    ("it is 5", "no number at all"),
    ("1, 2 and 3", "3"),
    ("$x=5$ and $y=6$", "6"),
    ("about 50%", "0.5"),
    ("", "5"),
    ("$(1,2)$", "$(1,2)$"),
    ("\\frac{1}{2}", "\\frac{2}{4}"),
]


def test_the_search_is_math_verifys_own():
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    made = MathVerifier(extract="any", gold="text", timeout_seconds=30)
    verdicts = made.verify(*zip(*ANY, strict=True))
    made.close()
    assert [v.correct for v in verdicts] == [verify(parse(g), parse(p)) for p, g in ANY]


def golds_of(data_folder, name):
    lines = (data_folder / "math_eval" / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    return list(dict.fromkeys(json.loads(line)["answer"] for line in lines if line))


@pytest.mark.parametrize("name", SETS)
def test_every_gold_of_the_benchmarks_is_right_about_itself(verifier, data_folder, name):
    golds = golds_of(data_folder, name)
    assert set(verifier.check_golds(golds)) == {"correct"}
    assert set(outcomes(verifier, [(f"\\boxed{{{g}}}", g) for g in golds])) == {"correct"}


@pytest.mark.parametrize("name", SETS)
def test_golds_made_wrong_are_never_right(verifier, data_folder, name):
    rows = rewritten(golds_of(data_folder, name)[:50], WRONG)
    found = outcomes(verifier, [(f"\\boxed{{{answer}}}", gold) for _, answer, gold in rows])
    assert [row for row, outcome in zip(rows, found, strict=True) if outcome == "correct"] == []


@pytest.mark.parametrize("name", ["math500", "minerva_math", "olympiadbench"])
def test_golds_written_otherwise_are_right(verifier, data_folder, name):
    rows = rewritten(golds_of(data_folder, name)[:60], EQUAL)
    found = outcomes(verifier, [(f"\\boxed{{{answer}}}", gold) for _, answer, gold in rows])
    assert [row for row, outcome in zip(rows, found, strict=True) if outcome != "correct"] == []


def test_scientific_golds_of_minerva(verifier, data_folder):
    lines = (data_folder / "math_eval" / "minerva_math.jsonl").read_text(encoding="utf-8").split("\n")
    golds = [json.loads(line)["answer"] for line in lines if line]
    scientific = [
        g for g in golds if "e" in g and g.replace("e", "").replace("-", "").replace(".", "").isdigit()
    ]
    assert len(scientific) >= 50
    as_power = [g.split("e")[0] + r" \times 10^{" + str(int(g.split("e")[1])) + "}" for g in scientific]
    pairs = [(f"\\boxed{{{p}}}", g) for p, g in zip(as_power, scientific, strict=True)]
    assert set(outcomes(verifier, pairs)) == {"correct"}


def test_rewards_by_outcome():
    rules = RewardRules(timeout=None)
    assert rules.reward("correct") == 1.0
    assert rules.reward("timeout") is None
    assert rules.reward_for(Verdict("wrong", score=0.25)) == 0.25
    assert rules.reward_for(Verdict("timeout")) != rules.reward_for(Verdict("timeout"))
    with pytest.raises(UserError, match="bogus"):
        rules.reward("bogus")
