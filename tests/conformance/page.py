"""Write docs/conformance.md: python -m tests.conformance.page"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.conformance import advantages, corrections, divergences, losses, reductions
from tests.conformance.replay import Case

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
PARTS = (losses, advantages, reductions, corrections, divergences)
CASES: list[Case] = [case for part in PARTS for case in part.CASES]
INTRODUCTION = """# Conformance

Made by `python -m tests.conformance.page`; do not edit. `tests/conformance` holds the table as data and
computes each line.

Cases of other projects' own tests, put through the objectives here. The numbers are theirs; {equal} of
{all} come out equal, to the 1e-3 of their tests, and {different} differ by a convention that is named.

| project, file | test | what | theirs | here |
|---|---|---|---|---|
"""


def numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{round(float(v), 4) + 0.0:.4g}" for v in values)


def row(case: Case) -> str:
    here = "equal" if case.here is None else f"{numbers(case.here)}: {case.convention}"
    what = case.what.replace("|", "\\|")
    return f"| {case.source} | `{case.name}` | {what} | {numbers(case.theirs)} | {here} |"


def page() -> str:
    """The whole of docs/conformance.md."""
    different = sum(case.here is not None for case in CASES)
    counts = {"all": len(CASES), "equal": len(CASES) - different, "different": different}
    return INTRODUCTION.format(**counts) + "\n".join(map(row, CASES)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
