from __future__ import annotations

import time

import pytest

from nft_lightning.verifiers.math.verifier import MathVerifier
from tests.verifiers.adversarial import cases, longest_seconds, thousand


def judge_all(made, canary, timeout_seconds):
    verifier = MathVerifier(timeout_seconds=timeout_seconds)
    started = time.perf_counter()
    verdicts = verifier.verify([c.pred for c in made], [c.gold for c in made])
    seconds = time.perf_counter() - started
    unexpected = [
        (c.name, v.outcome) for c, v in zip(made, verdicts, strict=True) if v.outcome not in c.expected
    ]
    assert unexpected == []
    assert not canary.exists()
    assert max(v.seconds for v in verdicts) < longest_seconds(timeout_seconds)
    assert len(verifier.pool.idle) == verifier.workers
    verifier.close()
    return verdicts, seconds


def test_every_kind_has_its_verdict_and_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    made = cases(str(canary))
    assert len({c.name for c in made}) == len(made) >= 60
    judge_all(made, canary, 1.0)


@pytest.mark.slow
def test_hundreds_of_them_in_one_call(tmp_path):
    canary = tmp_path / "canary"
    made = thousand(str(canary))[:120]
    _, seconds = judge_all(made, canary, 2.0)
    assert seconds < 300


def test_the_canary_would_sing(tmp_path):
    """The proof that nothing runs is only worth something if running would show."""
    canary = tmp_path / "canary"
    text = next(c.pred for c in cases(str(canary)) if c.name == "eval")
    eval(text.removeprefix("\\boxed{").removesuffix("}"))
    assert canary.exists()
