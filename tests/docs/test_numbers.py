"""Numbers in pages are those of the program, or of the results files."""

from __future__ import annotations

import json
import re
import tomllib
from urllib.parse import unquote

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


def test_the_page_on_diagnostics_is_as_its_results_say():
    page = " ".join((ROOT / "docs" / "diagnostics.md").read_text().replace("\n> ", " ").split())
    runs = json.loads((RESULTS / "diagnostics" / "results.json").read_text())
    healthy, collapsed = runs["healthy"], runs["collapsed"]

    def at(metric: str, rollout: int, digits: int) -> tuple[str, str]:
        both = (run["metrics"][metric][rollout - 1] for run in (healthy, collapsed))
        good, bad = (f"{value:.{digits}f}" for value in both)
        return good, bad

    assert f"| {healthy['before']:.3f}, {healthy['after']:.3f} |" in page
    assert f"| {collapsed['before']:.3f}, {collapsed['after']:.3f} |" in page
    assert at("rollout/accuracy", 1, 3)[0] == at("rollout/accuracy", 1, 3)[1]
    kl, effective = at("objective/kl_old_new", 1, 3), at("objective/effective_sample_fraction", 1, 2)
    assert f"KL was {kl[0]} in the healthy run and {kl[1]} in the other" in page
    assert f"effective share of samples was {effective[0]} and {effective[1]}" in page
    norm = at("optimizer/gradient_norm", 1, 2)
    assert f"{norm[0]} against {norm[1]} in the first rollout" in page
    first, second, third = (at("rollout/accuracy", rollout, 3) for rollout in (1, 2, 3))
    assert (
        f"{first[1]}, then {second[1]}, where the healthy run had {second[0]}, then {third[1]}" in page
    )
    before, after = at("policy/entropy_nats", 1, 2), at("policy/entropy_nats", 2, 2)
    assert f"from {before[0]} to {after[0]} and from {before[1]} to {after[1]}" in page
    assert f"in the collapsed run to {at('policy/entropy_nats', 15, 2)[1]}" in page
    length = [at("rollout/response_length_mean_tokens", rollout, 1)[1] for rollout in (1, 2)]
    assert f"from {length[0]} to {length[1]} within one rollout" in page
    clamped = [v for run in runs.values() for v in run["metrics"]["objective/negative_clamped_fraction"]]
    assert 0.08 < min(clamped) <= max(clamped) < 0.39
    assert max(abs(v) for run in runs.values() for v in run["metrics"]["objective/loss"]) < 0.05
    assert not healthy["alarms"]
    (alarm,) = collapsed["alarms"]
    assert f"warned after rollout {alarm['rollout']}: {alarm['sentence']};" in page
    setting = "least_effective_fraction=0.7"
    assert collapsed["alarms_with"][setting][0]["rollout"] == 3
    assert not healthy["alarms_with"][setting]
    assert f"`callbacks.collapse.{setting}` speaks after rollout 3, and is silent in the healthy" in page


def test_badges_are_true():
    readme = (ROOT / "README.md").read_text()
    badges = re.findall(r"img\.shields\.io/badge/(\S+)-(\w+)\)\]\((\S+)\)", readme)
    shown = {}
    for text, _, link in badges:
        name, _, value = unquote(text).replace("--", "\0").partition("-")
        shown[name] = (value.replace("\0", "-"), link)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f">={shown['python'][0]}" == project["requires-python"] + "+"
    assert shown["license"] == (project["license"], "LICENSE")
    number = shown["arXiv"][0]
    assert shown["arXiv"][1] == f"https://arxiv.org/abs/{number}"
    assert f"arXiv:{number}" in readme
    assert shown["status"][0].startswith("alpha")
    assert "Development Status :: 3 - Alpha" in project["classifiers"]
    assert len(shown) == 4
