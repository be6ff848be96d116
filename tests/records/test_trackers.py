"""Each tracker in a real run of its own process, sending nothing; skipped where it is not installed."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nft_lightning.app.build import build
from nft_lightning.errors import UserError
from nft_lightning.records import trackers

SECRET = "correct-horse-battery"
WORDS = ("wandb", "mlflow", "trackio")


def needs(word: str):
    missing = importlib.util.find_spec(word) is None
    return pytest.mark.skipif(missing, reason=f"{word} is not installed: pip install {word}")


def train(folder: Path, word: str, quick, *more: str) -> Path:
    """A run of two epochs; no proxy, no key and no network address is given to it."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "MLFLOW", "TRACKIO"))},
        "TRACKIO_DIR": str(folder / "trackio"),
        "MY_PASSWORD": SECRET,
    }
    run = folder / "run"
    command = [sys.executable, "-m", "nft_lightning.cli.train", *quick, f"logger={word}", *more]
    done = subprocess.run(
        [*command, f"run_dir={run}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return run


def files_with(folder: Path, text: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


@pytest.mark.parametrize("word", WORDS)
def test_without_the_package_one_sentence(word, compose_config, monkeypatch, tmp_path):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    cfg = compose_config(f"logger={word}", f"run_dir={tmp_path}/run")
    with pytest.raises(UserError, match=rf"^logger='{word}' needs .*: run: pip install "):
        build(cfg.logger[word], f"logger.{word}")


@pytest.mark.parametrize("word", WORDS)
def test_the_table_is_always_there(word, compose_config):
    assert list(compose_config(f"logger={word}").logger) == ["csv", word]


def test_ids_outlive_a_resume(tmp_path):
    first = trackers.kept_id(tmp_path / "run", "wandb")
    assert trackers.kept_id(tmp_path / "run", "wandb") == first
    assert trackers.kept_id(tmp_path / "other", "wandb") != first


@needs("mlflow")
def test_a_password_in_an_address_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds a password") as caught:
        trackers.MLflowTracker(str(tmp_path), f"https://me:{SECRET}@host.example/")
    assert SECRET not in str(caught.value)


@pytest.mark.slow
@needs("wandb")
def test_wandb_offline(tmp_path, quick):
    run = train(tmp_path, "wandb", quick, "logger.wandb.entity=${oc.env:MY_PASSWORD}")
    (made,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"eval/avg_at_2" in made.read_bytes()
    assert b"algorithm.negative_floor" in made.read_bytes()
    assert (run / "metrics.csv").exists()
    assert files_with(run, SECRET) == [made]  # the entity itself, which wandb must know
    assert made.read_bytes().count(SECRET.encode()) == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["logger"]["wandb"]["entity"] == (
        "${oc.env:MY_PASSWORD}"
    )


@pytest.mark.slow
@needs("mlflow")
def test_mlflow_in_a_local_database(tmp_path, quick):
    run = train(tmp_path, "mlflow", quick)
    with sqlite3.connect(tmp_path / "runs" / "mlflow.db") as database:
        metrics = {k for (k,) in database.execute("select distinct key from metrics")}
        params = dict(database.execute("select key, value from params"))
        state = database.execute("select status from runs").fetchall()
    assert {"eval/avg_at_2", "objective/loss"} <= metrics
    assert params["batching.updates_per_rollout"] == "2"
    assert state == [("FINISHED",)]
    assert (run / "metrics.csv").exists()


@pytest.mark.slow
@needs("trackio")
def test_trackio_on_this_machine(tmp_path, quick):
    run = train(tmp_path, "trackio", quick)
    assert files_with(tmp_path / "trackio", "objective/loss")
    assert files_with(tmp_path / "trackio", "batching.updates_per_rollout")
    assert (run / "metrics.csv").exists()
