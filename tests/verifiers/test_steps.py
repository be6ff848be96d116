"""Every example in the steps' docstrings, and what the steps must not change."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from nft_lightning import verifiers
from nft_lightning.verifiers.math import normalise
from nft_lightning.verifiers.math.normalise.characters import plain_characters
from nft_lightning.verifiers.math.normalise.numerals import plain_numerals
from nft_lightning.verifiers.math.normalise.units import NotReadableError, split_unit
from nft_lightning.verifiers.math.reading import read

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (verifiers, normalise)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", [m for m in MODULES if ".normalise." in m and "unit_names" not in m])
def test_every_step_shows_examples(name):
    assert doctest.testmod(importlib.import_module(name)).attempted > 0


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("\u22125", "-5"),
        ("\uff11\uff12\uff0e\uff15", "12.5"),
        ("\u0664\u0662", "42"),
        ("\uff08\uff11\uff0c\uff12\uff09", "(1,2)"),
        ("\u200f5", "5"),
        ("1\u00a0000", "1 000"),
        ("x\u00b2", "x^{2}"),
        ("2\u207b\u00b9", "2^{-1}"),
        ("\u202e12", "\u202e12"),
        ("\u2464", "\u2464"),
        ("2\u03c0", r"2\pi "),
        ("3\u20135", "3\u20135"),
        ("3 \u2013 5", "3 - 5"),
        ("\u221a12", r"\sqrt{12}"),
        ("\u221b(x+1)", r"\sqrt[3]{x+1}"),
        ("1\u00bd", r"1\frac{1}{2}"),
    ],
)
def test_characters(given, plain):
    assert plain_characters(given) == plain


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("4.5e33", r"4.5 \times 10^{33}"),
        ("2E-05", r"2 \times 10^{-5}"),
        ("-1.5e+3", r"-1.5 \times 10^{3}"),
        ("1e" + "9" * 5000, r"1 \times 10^{" + "9" * 5000 + "}"),
        ("e4", "e4"),
        ("2e", "2e"),
        ("2e3x", "2e3x"),
        ("2e^3", "2e^3"),
        (r"4.5\cdot 10^33", r"4.5 \times 10^{33}"),
        ("1, 234", "1, 234"),
        ("1 2345", "1 2345"),
        ("1234 567", "1234 567"),
        ("1_2", "1_2"),
        ("0.5", "0.5"),
    ],
)
def test_numerals(given, plain):
    assert plain_numerals(given) == plain


@pytest.mark.parametrize(
    "text", ["5t", "2kg m x", "7 or 8", "2b", r"2\text{ i}", "x", r"\text{even}", "5 m"]
)
def test_what_is_no_unit_stays(text):
    assert split_unit(text).core == text


@pytest.mark.parametrize(
    "text", [r"7\text{ or more}", r"7\text{ minus one}", r"7\text{ if } x \text{ is odd}", r"7\%\%"]
)
def test_words_that_change_a_number_are_not_read(text):
    with pytest.raises(NotReadableError):
        split_unit(text)


def test_a_reading_keeps_what_belongs_to_the_value():
    found = read(r"$x = 1{,}234 \text{ kilometers per hour}$.")
    assert (found.core, found.units, found.clear) == ("x = 1234", ("h^-1 km",), True)
    assert read("101_2").bases == (2,)
    assert read("19_2").clear is read("17_{b}").clear is read("7 8").clear is False
    assert read(r"5\text{ cm}, 6\text{ m}").units == ("cm", "m")
    assert read("7 8").key != read("78").key
