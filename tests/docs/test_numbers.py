"""Numbers in pages are those of the program, or of the results files."""

from __future__ import annotations

import json

import pytest

from nft_lightning.app.build import options_of
from tests.commands import command
from tests.docs.pages import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["qwen2.5_math_7b", "qwen2.5_32b"])
def test_the_paper_page_shows_what_nft_plan_prints(preset):
    ended = command("nft-plan", f"experiment={preset}")
    assert ended.code == 0
    assert stripped(ended.output) in stripped((ROOT / "docs" / "paper.md").read_text())


def test_the_default_run_is_as_its_results_say():
    runs = json.loads((RESULTS / "default" / "results.json").read_text())["nft"]
    page = (ROOT / "docs" / "results.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| nft | 5 |")]
    assert len(runs) == 5
    before = sum(run["before"] for run in runs) / len(runs)
    after = [run["after"] for run in runs]
    assert f"| {before:.3f} | {sum(after) / len(after):.3f} ±" in row
    assert f"| {min(after):.3f} |" in row
    readme = (ROOT / "README.md").read_text()
    assert f"from {before:.3f} to {sum(after) / len(after):.3f}" in readme


def test_the_speed_against_trl_is_as_its_results_say():
    lines = (RESULTS / "against_trl" / "results.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| samples per second, whole loop")]
    ratio = row.split("|")[4].split()[0]
    assert f"to TRL 1.16's `GRPOTrainer` | {ratio} " in (ROOT / "docs" / "scale.md").read_text()
    assert f"{float(ratio):.1f} times as many samples per second" in (ROOT / "README.md").read_text()


def test_the_number_of_algorithms_is_todays():
    count = len(options_of("algorithm"))
    assert f"and {count - 8} more configurations" in (ROOT / "README.md").read_text()
    assert f"and {count - 1} other algorithm configurations" in (ROOT / "docs" / "index.md").read_text()
    assert f"{count} algorithm configurations" in (ROOT / "CHANGELOG.md").read_text()
