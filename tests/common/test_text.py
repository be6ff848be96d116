from __future__ import annotations

import math

import pytest

from nft_lightning.common.text import (
    accuracy_name,
    interval,
    key_of,
    markdown,
    metric_label,
    with_interval,
)
from nft_lightning.errors import first_line

METRICS = {
    "eval/avg_at_8_low": 0.1,
    "eval/pass_at_8": 0.9,
    "eval/avg_at_8": 0.25,
    "eval/avg_at_8_high": 0.5,
}


def test_the_accuracy_is_found_among_its_ends():
    assert accuracy_name(METRICS) == "eval/avg_at_8"
    assert accuracy_name(["eval/pass_at_8"]) == ""
    assert metric_label("eval/avg_at_8") == "avg@8"


def test_an_interval_is_shown_where_there_is_one():
    assert with_interval(METRICS, "eval/avg_at_8") == "0.250 [0.100, 0.500]"
    assert with_interval(METRICS, "eval/pass_at_8") == "0.900"
    assert interval(0.1, -0.2, 0.4, "+") == "+0.100 [-0.200, +0.400]"
    assert interval(0.1, math.nan, math.nan) == "0.100"


def test_a_cell_may_hold_a_bar():
    assert markdown(["a", "b"], [["x|y", ""]]) == "| a | b |\n| --- | --- |\n| x\\|y |  |\n"


def test_what_an_exception_says_in_one_line():
    assert first_line(ValueError("  it failed.\nfor a reason")) == "it failed"
    assert first_line(ValueError()) == first_line(ValueError("\n")) == "ValueError"


@pytest.mark.parametrize("override", ["a.b=1=2", "+a.b=1", "++a.b=1", "~a.b", "~a.b=1"])
def test_the_key_of_an_override(override):
    assert key_of(override) == "a.b"
