from __future__ import annotations

import time

import pytest

from nft_lightning.errors import UserError
from nft_lightning.verifiers.extract import (
    balanced,
    bare,
    find_answers,
    first_boxed,
    gold_answer,
    last_boxed,
    official_boxed,
)
from nft_lightning.verifiers.math.verifier import MathVerifier


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\frac{\sqrt{3}}{\frac{1}{2}}}", r"\frac{\sqrt{3}}{\frac{1}{2}}"),
        (r"\fbox{3}", "3"),
        (r"\boxed{1} so \fbox{3}", "3"),
        (r"\boxed{5} and an open \boxed{6", "5"),
        (r"\boxed{6", None),
        (r"\boxed{\frac{1}{2}", None),
        ("nothing", None),
        ("", None),
        (r"\boxed{ 7 }", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\boxed{5}", "5"),
        (r"\boxed{5\boxed{7}}", "7"),
        ("```latex\n\\boxed{8}\n```", "8"),
        (r"`\boxed{8}`", "8"),
        (r"$$\boxed{8}$$", "8"),
        ("\\boxed{1\n2}", "1\n2"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{}", ""),
        (r"\boxedx{4}", None),
        (r"$\boxed 5$", "5"),
        (r"$\boxed5$", "5"),
        (r"it is \boxed 1,234.5.", "1,234.5"),
        (r"$\boxed x$", "x"),
        (r"$\boxed\frac{1}{2}$", r"\frac{1}{2}"),
        (r"\boxed\pi", r"\pi"),
        ("the \\boxed answer", None),
        (r"\framebox{5}", "5"),
        (r"$\boxed{1}$ and $\boxed{2}$", "1, 2"),
        (r"\boxed{1}, \boxed{2}, and \boxed{3}", "1, 2, 3"),
        (r"\boxed{1}\text{ or }\boxed{2}", "1, 2"),
        (r"\boxed{3}, so the answer is \boxed{4}", "4"),
        (r"\boxed{1}. Yes, \boxed{1}, \boxed{1}", "1"),
        (r"\boxed{1}\boxed{2}", "2"),
        (r"$\boxed{50}\%$", r"50\%"),
        (r"$\boxed{50}$%", r"50\%"),
        (r"$\boxed{50\%}\%$", r"50\%"),
    ],
)
def test_last_boxed(text, found):
    assert last_boxed(text) == found


def test_first_boxed():
    assert first_boxed(r"\boxed{1} then \boxed{2}") == "1"
    assert first_boxed(r"\boxed{1 then \boxed{2}") == "2"
    assert first_boxed(r"$\boxed{1}$ or $\boxed{2}$, not \boxed{3}") == "1, 2"
    assert first_boxed("none") is None


def test_the_official_rule_wants_the_whole_box_in_the_last_100_characters():
    tail = "x" * (100 - len(r"\boxed{4}"))
    assert official_boxed(r"\boxed{4}" + tail) == "4"
    assert official_boxed(r"\boxed{4}" + tail + "x") is None
    assert official_boxed(r"\boxed{1}\boxed{2}") == "2"
    assert official_boxed(r"\boxed{1}\boxed{2") is None
    assert official_boxed(r"\fbox{1}") is None


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" + "{" * 10**6,
        r"\boxed{" * 150_000,
        r"\boxed{" + "{" * 500_000 + "}" * 500_000,
        "\\" * 10**6 + r"\boxed{",
        r"\boxed{1}, " * 100_000,
        r"\boxed\a{" * 100_000,
        r"\boxed " * 150_000,
        r"\boxed" + " " * 10**6,
    ],
)
def test_a_megabyte_takes_linear_time(text):
    started = time.perf_counter()
    last_boxed(text)
    assert time.perf_counter() - started < 20


def test_what_is_around_an_answer():
    assert bare(" $5$ ") == "5"
    assert bare(r"\$5") == r"\$5"
    assert bare(r"$5\$") == r"$5\$"
    assert bare("$1$ and $2$") == "$1$ and $2$"
    assert gold_answer(r"The answer is $\boxed{4.5e3}$.") == "4.5e3"
    assert balanced(r"\{ {x} \left\{")
    assert not balanced(r"\frac{1}{")
    assert not balanced("}{")


def test_truncated_completions():
    texts, cut = [r"\boxed{1}", r"\boxed{2}"], [False, True]
    assert find_answers(texts, cut, "boxed", "last", "score") == ["1", "2"]
    assert find_answers(texts, cut, "boxed", "last", "unparsable") == ["1", None]
    assert find_answers(texts, None, "boxed", "last", "unparsable") == ["1", "2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extract": "box"}, "verifier.extract='box'"),
        ({"which": "middle"}, "verifier.which='middle'"),
        ({"truncated": "wrong"}, "verifier.truncated='wrong'"),
        ({"gold": "latex"}, "verifier.gold='latex'"),
        ({"extract": "official", "which": "first"}, "has no effect on extract=official"),
        ({"workers": 0}, "verifier.workers=0"),
        ({"timeout_seconds": 0}, "verifier.timeout_seconds=0"),
        ({"timeout_seconds": float("nan")}, "verifier.timeout_seconds=nan"),
        ({"memory_limit_mb": 1}, "verifier.memory_limit_mb=1"),
        ({"max_answer_characters": 0}, "verifier.max_answer_characters=0"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        MathVerifier(**options)
