"""docs/objectives.md says what the code says."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("page", ROOT / "benchmarks" / "objectives.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_the_one_that_the_code_gives(script):
    assert (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8") == script.page()


def test_the_picture_is_there_and_its_curves_are_the_objectives(script):
    assert (ROOT / "docs" / "objectives.png").stat().st_size > 20_000
    assert (ROOT / "docs" / "prompt_weights.png").stat().st_size > 5_000
    made = script.algorithms()
    assert script.coefficient(made["nft"], 0.25, 0.0, right=True) == pytest.approx(0.75)
    assert script.coefficient(made["nft_official"], 0.25, 0.0, right=False) == pytest.approx(-0.25)
    assert script.coefficient(made["ppo"], 0.75, 0.1, right=False) == pytest.approx(
        -0.75 * 2.718281828**0.1
    )
    assert math.isnan(script.coefficient(made["sft"], 0.5, 0.0, right=False))
    assert script.coefficient(made["sft"], 0.5, 0.0, right=True) == pytest.approx(1.0)
