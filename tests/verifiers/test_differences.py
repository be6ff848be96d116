"""The table of differences from math-verify: each is real, tested, and written down."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import math_verify
import pytest

from nft_lightning.verifiers.math.verifier import MathVerifier
from tests.verifiers.differences import AMBIGUOUS, DIFFERENCES

PAGE = Path(__file__).parents[2] / "docs" / "verifier.md"


def verdicts(rows):
    verifier = MathVerifier(timeout_seconds=30)
    found = verifier.verify([f"\\boxed{{{row[1]}}}" for row in rows], [row[2] for row in rows])
    verifier.close()
    return [(*row[:3], verdict.outcome) for row, verdict in zip(rows, found, strict=True)]


@pytest.mark.parametrize("rows", [DIFFERENCES, AMBIGUOUS], ids=["differences", "ambiguous"])
def test_our_verdicts(rows):
    assert verdicts(rows) == rows


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: f"{row[1]} for {row[2]}")
def test_math_verify_says_otherwise(row):
    """A difference that is none any more should leave the table."""
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    _, answer, gold, ours = row
    found = [math_verify.parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)]
    assert math_verify.verify(*found, timeout_seconds=None) == (ours != "correct")


def test_the_table_has_every_row():
    table = PAGE.read_text().partition("## Differences from math-verify")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| ([a-zA-Z -]+?) \|", table, re.MULTILINE)) - {"what"}
    assert named == {row[0] for row in DIFFERENCES + AMBIGUOUS}
