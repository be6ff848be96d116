from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from nft_lightning.common.bounds import Bounds, bounded, check_bounds, check_field
from nft_lightning.errors import UserError

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "said"),
    [
        (Bounds(least=1), (1, 2, INF), (0, NAN), "is below 1: use 1 or more"),
        (Bounds(above=0, use="1e-4"), (1e-9, INF), (0, -1, NAN), "is not above 0: use 1e-4"),
        (Bounds(most=3, use="3"), (3, -INF), (3.1, NAN), "is above 3: use 3"),
        (Bounds(below=3, use="2"), (2.9, -INF), (3, NAN), "is not below 3: use 2"),
        (Bounds(least=0, most=1, use="1"), (0, 1), (-0.1, 1.1, NAN), "is outside [0, 1]: use 1"),
        (Bounds(least=0, below=1, use="0.2"), (0, 0.9), (1, NAN), "is outside [0, 1): use 0.2"),
        (Bounds(above=0, most=1, use="1"), (0.1, 1), (0, 1.1), "is outside (0, 1]: use 1"),
        (Bounds(above=0, below=1, use="0.5"), (0.1, 0.9), (0, 1), "is outside (0, 1): use 0.5"),
        (Bounds(finite=True, use="0"), (-1e300, 5), (INF, -INF, NAN), "is not finite: use 0"),
        (Bounds(choices=("a", "b")), ("a", "b"), ("c",), "is not known: use one of a, b"),
    ],
)
def test_each_kind_of_bound(bounds, inside, outside, said):
    assert [bounds.problem(value) for value in inside] == [None] * len(inside)
    for value in outside:
        assert ": ".join(bounds.problem(value)) == said


@dataclass
class Above:
    share: float = bounded(0.5, least=0, below=1, use="0.5")
    name: str | None = bounded(None, choices=("a",))


@dataclass
class Below(Above):
    share: float = 0.2


def test_another_default_keeps_the_bounds():
    check_bounds(Below(), "area")
    with pytest.raises(UserError, match=r"area\.share=1\.0 is outside \[0, 1\)"):
        check_bounds(Below(share=1.0), "area")
    with pytest.raises(UserError, match=r"area\.name='b' is not known"):
        check_bounds(Below(name="b"), "area")


def test_a_value_by_itself():
    check_field("callbacks.checkpoint.every_minutes", None, least=0)
    check_field("callbacks.checkpoint.every_minutes", 0, least=0)
    with pytest.raises(UserError, match=r"checkpoint\.every_minutes=-1 is below 0: use 0 or more"):
        check_field("callbacks.checkpoint.every_minutes", -1, least=0)
    with pytest.raises(UserError, match=r"collapse\.action=None is not known: use one of warn, stop"):
        check_field("callbacks.collapse.action", None, choices=("warn", "stop"))
