"""The page of models says what the tests' table says."""

from __future__ import annotations

from tests.architectures.page import PAGE, page


def test_the_page_holds_the_table():
    text = PAGE.read_text()
    assert text == page(text), "run: python -m tests.architectures.page"
