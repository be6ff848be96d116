"""Each case of another project's tests gives their number here, or another one for a named reason."""

from __future__ import annotations

import pytest

from tests.conformance.page import CASES, PAGE, page


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.source.split()[0]}-{case.name}")
def test_a_case(case):
    found = case.ours().flatten().tolist()
    same = pytest.approx(list(case.theirs), rel=1e-3, abs=1e-4)
    if case.here is None:
        assert found == same
        assert not case.convention
        return
    assert found == pytest.approx(list(case.here), rel=1e-3, abs=1e-4)
    assert found != same
    assert case.convention


def test_the_page_is_the_table():
    assert PAGE.read_text(encoding="utf-8") == page()
