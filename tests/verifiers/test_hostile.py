"""Nothing that a model writes raises, hangs, or is called right without being it."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nft_lightning.verdict import OUTCOMES
from nft_lightning.verifiers.function import FunctionVerifier
from nft_lightning.verifiers.math.verifier import MathVerifier
from nft_lightning.verifiers.simple import ExactVerifier, NumericVerifier
from nft_lightning.verifiers.weighted import WeightedVerifier
from tests.verifiers.adversarial import longest_seconds
from tests.verifiers.hostile import answers

TIMEOUT_SECONDS = 1.0
TOKENS = (
    r"\boxed{ \boxed \fbox{ { } \{ \} ( ) [ ] \frac \frac{1}{2} \sqrt \text{ \text{or} ^ _ \ \\ $ \$ %"
    r" \% & # ~ 0 1 7 9 . , ; : ! ? ' | / + - = < > \neq \le \ldots \cdot \times e E 1e9 x a or and"
    r" million \circ \overline{3} \begin{pmatrix} \end{pmatrix} \left \right \langle \infty \approx"
)
SIGNS = ["\u00bd", "\u221a", "\u00b2", "\u2013", "\u221e", "\uff17", "\u00b0", "\ud800", '"', " ", "\n"]
ANY_CHARACTER = st.characters(codec=None, exclude_categories=())
TEXT = st.one_of(
    st.text(ANY_CHARACTER, max_size=60),
    st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")),
    st.lists(st.sampled_from([*TOKENS.split(), *SIGNS]), max_size=14).map("".join),
    st.builds(
        lambda before, digits, length, after: before + digits * length + after,
        st.sampled_from(["", "-", "1e", "1e-", "0.", "1/", "\\frac{1}{", "x^{", "1_", "\\sqrt{", "."]),
        st.sampled_from(["1", "9", "0", "12", ",", "1,", "(", "{", "\\", "e", " ", "\u00bd", "\ud800"]),
        st.sampled_from([1, 2, 50, 1001, 4299, 4301, 9999, 20_000]),
        st.sampled_from(["", "}", ")", "%", "e5", "\\text{ cm}"]),
    ),
    st.builds(
        lambda opens, depth, closes: opens * depth + "7" + closes * depth,
        st.sampled_from(["(", "{", "[", "\\frac{1}{", "\\sqrt{", "\\boxed{", "\\text{", "$", "|"]),
        st.integers(0, 3000),
        st.sampled_from([")", "}", "]", "$", "|", ""]),
    ),
)
COMPLETION = st.one_of(TEXT, TEXT.map(lambda text: f"\\boxed{{{text}}}"), TEXT.map(lambda t: f"${t}$"))
CASES = st.lists(st.tuples(COMPLETION, TEXT), min_size=20, max_size=20)
THOROUGH = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def odd(completion: str, gold: str) -> object:
    """A user's function that fails on most of what it gets."""
    return int(completion) == int(gold)


def in_this_process():
    function = FunctionVerifier(function="tests.verifiers.test_hostile.odd")
    exact, numeric = ExactVerifier(), NumericVerifier()
    weighted = WeightedVerifier(
        parts={
            "answer": {"weight": 1.0, "verifier": numeric},
            "function": {"weight": 0.5, "verifier": function},
        }
    )
    whole = [ExactVerifier(extract="whole", ignore_case=True), NumericVerifier(extract="whole")]
    official = [NumericVerifier(extract="official"), NumericVerifier(which="first")]
    return [exact, numeric, function, weighted, *whole, *official]


@THOROUGH
@given(CASES)
def test_verifiers_of_this_process(cases):
    texts, golds = [t for t, _ in cases], [g for _, g in cases]
    for verifier in in_this_process():
        started = time.perf_counter()
        found = verifier.verify(texts, golds)
        assert len(found) == len(cases)
        assert {verdict.outcome for verdict in found} <= set(OUTCOMES)
        assert time.perf_counter() - started < 20


@pytest.fixture(scope="module", params=["boxed", "first", "any"])
def math_verifier(request):
    options = {"boxed": {}, "first": {"which": "first"}, "any": {"extract": "any"}}[request.param]
    made = MathVerifier(timeout_seconds=0.3, **options)
    yield made
    made.close()


@settings(THOROUGH, max_examples=25)
@given(CASES)
def test_math_verify(math_verifier, cases):
    texts, golds = [t for t, _ in cases], [g for _, g in cases]
    found = math_verifier.verify(texts, golds)
    assert {verdict.outcome for verdict in found} <= set(OUTCOMES)
    assert {*math_verifier.check_golds(texts)} <= {"correct", "bad_gold", "timeout", "error"}


def test_a_thousand_hostile_answers_earn_nothing():
    pairs = list(answers(1000))
    verifier = MathVerifier(timeout_seconds=TIMEOUT_SECONDS)
    found = verifier.verify([f"So it is \\boxed{{{text}}}." for text, _ in pairs], [g for _, g in pairs])
    verifier.close()
    right = [pair for pair, verdict in zip(pairs, found, strict=True) if verdict.correct]
    assert right == []
    assert {verdict.outcome for verdict in found} <= {"wrong", "unparsable", "timeout", "error"}
    assert max(verdict.seconds for verdict in found) < longest_seconds(TIMEOUT_SECONDS)


def test_a_thousand_hostile_answers_are_no_numbers_either():
    pairs = list(answers(1000))
    found = NumericVerifier().verify([f"\\boxed{{{text}}}" for text, _ in pairs], [g for _, g in pairs])
    right = [pair for pair, verdict in zip(pairs, found, strict=True) if verdict.correct]
    # The numeric verifier has a tolerance: within a millionth is right.
    assert all(".0000001" in text for text, _ in right)
    assert {verdict.outcome for verdict in found} <= {"correct", "wrong", "unparsable"}
