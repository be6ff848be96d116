from __future__ import annotations

import json

import pytest

from nft_lightning.errors import UserError
from nft_lightning.verifiers.base import RewardRules
from nft_lightning.verifiers.extract import last_boxed
from nft_lightning.verifiers.math import MathVerifier, compare_plain, readable_gold


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{3}", "3"),
        (r"\boxed{5} and an open \boxed{6", "5"),
        (r"\boxed{6", None),
        ("nothing", None),
        (r"\boxed{ 7 }", "7"),
        (r"\boxed{\boxed{5}", "5"),
    ],
)
def test_last_boxed(text, found):
    assert last_boxed(text) == found


def test_a_million_braces_take_no_time():
    assert last_boxed(r"\boxed{" + "{" * 10**6) is None


@pytest.mark.parametrize(
    ("answer", "gold", "outcome"),
    [("4", "4", "correct"), ("-4", "4", "wrong"), (None, "4", "unparsable"), ("", "4", "unparsable")],
)
def test_plain_answers(answer, gold, outcome):
    assert compare_plain(answer, gold).outcome == outcome


def test_what_is_not_plain_is_left_to_math_verify():
    for answer in ("04", "4.0", "+4", r"\frac{8}{2}", "٤", "4 "):
        assert compare_plain(answer, "4") is None


def test_scientific_notation_in_golds():
    assert readable_gold("4.5e33") == r"4.5 \times 10^{33}"
    assert readable_gold("2E-05") == r"2 \times 10^{-5}"
    assert readable_gold("e4") == "e4"


def test_math_verify_sees_scientific_golds():
    verifier = MathVerifier()
    verdicts = verifier.verify([r"\boxed{4.5 \times 10^{3}}", r"\boxed{4500}"], ["4.5e3", "4.5e3"])
    verifier.close()
    assert [v.outcome for v in verdicts] == ["correct", "correct"]


def test_a_hung_verification_times_out_and_the_pool_stays_full():
    verifier = MathVerifier(workers=2, timeout_seconds=1.0)
    # A worker that never answers: it is stopped before its job arrives.
    import os
    import signal

    verifier.verify([r"\boxed{0.5}"] * 2, [r"\frac{1}{2}"] * 2)
    for worker in verifier.pool.idle:
        os.kill(worker.pid, signal.SIGSTOP)
    stuck = verifier.verify([r"\boxed{0.5}"] * 2, [r"\frac{1}{2}"] * 2)
    assert "timeout" in {v.outcome for v in stuck}
    slow_start = MathVerifier(workers=2, timeout_seconds=20)
    fresh = slow_start.verify([r"\boxed{0.5}"] * 4, [r"\frac{1}{2}"] * 4)
    assert [v.outcome for v in fresh] == ["correct"] * 4
    verifier.close()
    slow_start.close()


def test_a_killed_worker_is_an_error_not_a_crash():
    verifier = MathVerifier(workers=1, timeout_seconds=20)
    verifier.verify([r"\boxed{0.5}"], [r"\frac{1}{2}"])
    verifier.pool.idle[0].kill()
    verifier.pool.idle[0].wait()
    assert verifier.verify([r"\boxed{0.5}"], [r"\frac{1}{2}"])[0].outcome == "error"
    assert verifier.verify([r"\boxed{0.5}"], [r"\frac{1}{2}"])[0].outcome == "correct"
    verifier.close()


def test_rewards_by_outcome():
    rules = RewardRules(timeout=None)
    assert rules.reward("correct") == 1.0
    assert rules.reward("timeout") is None
    with pytest.raises(UserError, match="bogus"):
        rules.reward("bogus")


def test_every_gold_of_the_benchmarks_is_right_about_itself(data_folder):
    verifier = MathVerifier(timeout_seconds=20)
    for name in ("aime24", "amc23", "math500"):
        lines = (data_folder / "math_eval" / f"{name}.jsonl").read_text().splitlines()
        golds = [json.loads(line)["answer"] for line in lines]
        verdicts = verifier.verify([f"\\boxed{{{g}}}" for g in golds], golds)
        assert {v.outcome for v in verdicts} == {"correct"}, name
    verifier.close()
