"""Memory on paper against memory measured, here and elsewhere."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("published", ROOT / "benchmarks" / "plan_published.py")
assert spec
assert spec.loader
published = importlib.util.module_from_spec(spec)
spec.loader.exec_module(published)


@pytest.mark.slow
def test_memory_is_within_15_percent_of_what_is_measured():
    command = [sys.executable, str(ROOT / "benchmarks" / "plan_memory.py"), "--quick"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert {r["logprobs"] for r in rows} == {"plain", "fused"}
    assert len({r["model"] for r in rows}) == 3
    assert {r["tokens"] for r in rows} == {256, 1024}
    assert {r["precision"] for r in rows} == {"32-true", "bf16-mixed", "bf16-true"}
    for row in rows:
        assert row["planned_over_measured"] == pytest.approx(1, abs=0.15), row


def test_memory_is_within_10_percent_of_what_prime_rl_publishes():
    figures = {given[:1] + given[3:] for given in published.PUBLISHED if given[1:3] == (1, 0)}
    assert figures == {("Qwen/Qwen3-0.6B", 16_384, 12.528), ("Qwen/Qwen3-0.6B", 65_536, 19.561)}
    rows = json.loads((ROOT / "benchmarks" / "results" / "plan" / "published.json").read_text())
    for row, (*setting, gib) in zip(rows, published.PUBLISHED, strict=True):
        found = published.planned(*setting)
        assert found == pytest.approx(gib, rel=0.1)
        assert found == pytest.approx(row["planned_gib"], rel=0.02)


@pytest.mark.parametrize("results", ["memory", "published", "scaling"])
def test_the_pages_show_the_committed_figures(results):
    pages = "".join((ROOT / "docs" / f"{p}.md").read_text() for p in ("plan", "paper"))
    lines = (ROOT / "benchmarks" / "results" / "plan" / f"{results}.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("|") and line not in pages] == []
