"""The fast path says what a worker would say, on generated pairs of every kind."""

from __future__ import annotations

import logging
import re
from fractions import Fraction

import math_verify
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nft_lightning.verifiers.extract import balanced, bare, gold_answer
from nft_lightning.verifiers.math.fast import compare_plain, number
from nft_lightning.verifiers.math.number import close
from nft_lightning.verifiers.math.score import score

logging.getLogger("math_verify").setLevel(logging.CRITICAL)

COUNT = settings(
    max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
SIGN = st.sampled_from(["", "-"])
WHOLE = st.one_of(st.integers(0, 12), st.integers(0, 2000), st.integers(0, 10**12 - 1))


def comma(n: int) -> str:
    return f"{n:,}"


INTEGERS = st.builds(
    lambda sign, n, form: sign + form(n),
    SIGN,
    WHOLE,
    st.sampled_from([str, str, comma, lambda n: comma(n).replace(",", "{,}"), lambda n: "0" + str(n)]),
)
DECIMALS = st.builds(
    lambda sign, n, digits: f"{sign}{n}.{digits}",
    SIGN,
    st.one_of(st.integers(0, 12), st.integers(0, 99_999_999)),
    st.one_of(
        st.sampled_from(["0", "5", "50", "25", "125", "333333", "666667", "000001", "10"]),
        st.text("0123456789", min_size=1, max_size=6),
    ),
)
FRACTIONS = st.builds(
    lambda sign, a, b, form: sign + form % (a, b),
    SIGN,
    st.one_of(st.integers(0, 12), st.integers(0, 999_999)),
    st.one_of(st.integers(1, 12), st.integers(1, 999_999)),
    st.sampled_from([r"\frac{%s}{%s}", r"\dfrac{%s}{%s}", r"\tfrac{%s}{%s}", "%s/%s"]),
)
NUMBERS = st.one_of(INTEGERS, DECIMALS, FRACTIONS)
SMALL = st.integers(-3, 3).map(str)
OTHERS = st.one_of(
    st.builds(lambda n: f"{n}\\%", NUMBERS),
    st.builds(lambda n: f"{n}%", NUMBERS),
    st.builds(
        lambda n, u: n + u,
        NUMBERS,
        st.sampled_from([r"\text{ cm}", " cm", "^\\circ", r"\text{ square units}"]),
    ),
    st.builds(lambda n: f"\\${n}", NUMBERS),
    st.builds(lambda n: f"${n}$", NUMBERS),
    st.builds(lambda x, n: x + n, st.sampled_from(["x=", "x = ", "n= ", "y ="]), NUMBERS),
    st.builds(lambda n: f"+{n}", INTEGERS),
    st.builds(lambda n: f"{n}.", INTEGERS),
    st.builds(lambda a, b: f"{a}\\frac{{{b}}}{{4}}", st.integers(1, 9), st.integers(1, 3)),
    st.builds(lambda a, b: f"{a}\\sqrt{{{b}}}", SMALL, st.sampled_from(["2", "3", "4", "8"])),
    st.builds(
        lambda o, a, b, c: f"{o}{a},{b}{c}", st.sampled_from("(["), SMALL, SMALL, st.sampled_from(")]")
    ),
    st.builds(lambda a, b: f"\\{{{a},{b}\\}}", SMALL, SMALL),
    st.builds(lambda a, b, c: f"({a},{b},{c})", SMALL, SMALL, SMALL),
    st.builds(lambda a, b: f"\\begin{{pmatrix}}{a}\\\\{b}\\end{{pmatrix}}", SMALL, SMALL),
    st.builds(lambda a, b: f"{a}, {b}", SMALL, SMALL),
    st.sampled_from(
        [r"\text{even}", "even", "A", r"\text{(A)}", "yes", r"\pi", r"\infty", "x+1", "1+x"]
    ),
)


def other_writings(text: str) -> list[str]:
    """The same value, written otherwise, and its roundings."""
    found = number(text)
    if found is None:
        return [text]
    value = abs(found[0])
    sign = "-" if found[0] < 0 else ""
    forms = [f"\\frac{{{value.numerator * k}}}{{{value.denominator * k}}}" for k in (1, 2, 5)]
    forms += [f"{float(value):.{k}f}" for k in range(1, 7)]
    if value.denominator == 1:
        forms += [str(value), comma(int(value)), f"{value}.0", f"{int(value) * 3}/3"]
    return [sign + form for form in forms]


REWRITTEN = NUMBERS.flatmap(lambda n: st.tuples(st.sampled_from(other_writings(n)), st.just(n)))


pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def check(answer: str, gold: str) -> None:
    """Where the fast path decides, a worker has to say the same."""
    mine, theirs = bare(answer), gold_answer(gold)
    decided = compare_plain(mine, theirs)
    if decided is not None:
        assert score("box+answer", mine, theirs)[0] == decided, (answer, gold)


@COUNT
@given(st.one_of(INTEGERS, FRACTIONS), st.one_of(INTEGERS, FRACTIONS))
def test_exact_numbers_are_what_math_verify_says_too(answer, gold):
    decided = compare_plain(answer, gold)
    if decided is not None:
        found = [
            math_verify.parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)
        ]
        said = math_verify.verify(*found, timeout_seconds=None)
        assert ("correct" if said else "wrong") == decided


@COUNT
@given(REWRITTEN, st.sampled_from(["x=", "x = ", "a= ", "k =", "t = "]))
def test_assignments(pair, name):
    assert compare_plain(name + pair[0], pair[1]) in (None, compare_plain(*pair))
    check(name + pair[0], pair[1])


@COUNT
@given(REWRITTEN)
def test_numbers_and_their_other_writings(pair):
    check(*pair)


@COUNT
@given(NUMBERS, NUMBERS)
def test_two_numbers(answer, gold):
    check(answer, gold)


@COUNT
@given(st.one_of(NUMBERS, OTHERS), st.one_of(NUMBERS, OTHERS))
def test_all_kinds(answer, gold):
    check(answer, gold)


@COUNT
@given(st.one_of(NUMBERS, OTHERS))
def test_equal_texts(text):
    check(text, text)


TOKENS = (
    r"1 2 0 . , x y + - = ( ) [ ] \{ \} { } \frac{1}{2} \frac \sqrt \text{ a even \% % \pi ^ _ & \$ $"
)
TOKENS += (
    r" \begin{pmatrix} \end{pmatrix} \infty \cup \left \right ! | cm / \cdot \boxed{ \int and or ; :"
)
SOUP = st.lists(st.sampled_from([*TOKENS.split(), " ", "\n", "\\\\"]), min_size=1, max_size=7).map(
    "".join
)


@COUNT
@given(SOUP.filter(balanced))
def test_equal_soup_of_tokens(text):
    mine = bare(text)
    if compare_plain(mine, mine) is not None:
        assert score("box+answer", mine, mine)[0] == "correct"
        for size in ("\\dfrac", "\\tfrac"):
            other = bare(re.sub(r"\\frac(?![a-zA-Z])", "\\" + size, text))
            assert compare_plain(other, mine) == "correct"
            assert (
                score("box+answer", other, mine)[0] == score("box+answer", mine, other)[0] == "correct"
            )


@pytest.mark.parametrize(
    ("answer", "gold", "outcome"),
    [
        ("4", "4", "correct"),
        ("-4", "4", "wrong"),
        ("1,000", "1000", "correct"),
        ("1{,}000", "1000", "correct"),
        ("007", "7", "correct"),
        ("-0", "0", "correct"),
        ("0.50", r"\frac{1}{2}", "correct"),
        (r"\dfrac{2}{4}", "1/2", "correct"),
        ("0.33333", r"\frac{1}{3}", "wrong"),
        ("0.333333", r"\frac{1}{3}", "correct"),
        ("0.000001", "0.000002", "wrong"),
        ("7.000001", "7", "wrong"),
        ("0.3", r"\frac{1}{3}", "wrong"),
        (r"\frac{1}{0}", "1", None),
        ("1,00", "100", None),
        (r"\pi", r"\pi", None),
        (r"\frac{\pi}{2}", r"\frac{\pi}{2}", "correct"),
        ("x", "4", None),
        ("5 cm", "5", None),
        ("1234567890123", "1234567890124", None),
    ],
)
def test_where_it_decides(answer, gold, outcome):
    assert compare_plain(answer, gold) == outcome


def test_most_plain_pairs_are_decided():
    """A fast path that never speaks would pass every test above."""
    decided = [compare_plain(str(a), f"{b}.5") for a in range(50) for b in range(50)]
    assert all(d == "wrong" for d in decided)
    thirds = [compare_plain(f"\\frac{{{a}}}{{3}}", f"{2 * a}/6") for a in range(50)]
    assert all(d == "correct" for d in thirds)
    assert close(Fraction(333333, 10**6), Fraction(1, 3))
    assert Fraction(number("1,234.5".replace(",", ""))[0]) == Fraction(2469, 2)
