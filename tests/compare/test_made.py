"""What published numbers were made with, and whether that is still what the same command means."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.compare.comparison import compare
from nft_lightning.compare.made import made_with, sentence, settings_of
from nft_lightning.compare.runs import flattened
from nft_lightning.records import provenance
from tests.compare.made_runs import make_run

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PUBLISHED = sorted(
    path for path in RESULTS.rglob("comparison.json") if "made" in json.loads(path.read_text())
)


def settings_today(overrides):
    """What the command means with today's config, as a run folder would hold it."""
    cfg = compose_or_explain("train", list(overrides))
    saved = OmegaConf.create(OmegaConf.to_yaml(cfg))
    return settings_of(flattened(OmegaConf.to_container(saved)))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_published_comparisons_have_todays_settings(path):
    made = json.loads(path.read_text())["made"]
    assert all(made[key] for key in ("commits", "dates", "machines"))
    for label, overrides in made["overrides"].items():
        today, then = settings_today(overrides), made["settings"][label]
        assert {k: (then.get(k), v) for k, v in today.items() if then.get(k) != v} == {}
        assert set(then) == set(today)


def test_a_changed_default_would_be_seen():
    today = settings_today(["algorithm=nft"])
    other = settings_today(["algorithm=nft", "optimizer.learning_rate=0.5", "seed=7", "run_dir=x"])
    assert [k for k, v in today.items() if other[k] != v] == ["optimizer.learning_rate"]


def test_a_comparison_says_what_made_its_runs(tmp_path):
    for seed in range(2):
        folder = make_run(tmp_path / f"nft_{seed}", seed=seed)
        words = ["algorithm=nft", f"seed={seed}", f"run_dir={folder}", "trainer.max_epochs=4"]
        (folder / "command.json").write_text(json.dumps({"overrides": words, "folder": "/"}))
        provenance.add_start(folder)
        provenance.add_start(folder)
    found = made_with(compare([tmp_path]).runs)
    assert found["overrides"] == {"nft": ["algorithm=nft", "seed=0", "trainer.max_epochs=4"]}
    assert found["settings"]["nft"]["optimizer.learning_rate"] == 1e-4
    assert "run_dir" not in found["settings"]["nft"]
    assert len(found["commits"]) == len(found["dates"]) == len(found["machines"]) == 1
    assert sentence(found).startswith(f"Commit {found['commits'][0]}; {found['dates'][0]}")
    assert sentence(found).endswith("torch 2.13.")


def test_runs_of_earlier_versions_say_nothing(tmp_path):
    make_run(tmp_path / "nft")
    assert sentence(made_with(compare([tmp_path]).runs)) == ""


def test_the_commit_of_a_checkout(tmp_path):
    assert provenance.commit_of(tmp_path) is None
    for words in (["init", "-q"], ["config", "user.name", "x"], ["config", "user.email", "x@y"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    (tmp_path / "__init__.py").write_text("1\n")
    for words in (["add", "."], ["commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    commit = provenance.commit_of(tmp_path)
    assert re.fullmatch("[0-9a-f]{7,}", commit)
    (tmp_path / "__init__.py").write_text("2\n")
    assert provenance.commit_of(tmp_path) == f"{commit}, changed"
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment" / "__init__.py").write_text("installed\n")
    assert provenance.commit_of(tmp_path / "environment") is None
