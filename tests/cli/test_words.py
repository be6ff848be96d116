"""What people type, made ready for Hydra: quotes, home folders, groups left out, added keys."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.cli.train import offer_searches
from nft_lightning.cli.words import check_added, ready
from nft_lightning.errors import UserError


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("run_dir=runs/lr=1e-4", "runs/lr=1e-4"),
        ("run_dir=runs/опыт", "runs/опыт"),
        ("run_dir=runs/a(b", "runs/a(b"),
        ("run_dir=runs/a b", "runs/a b"),
        ("run_dir='runs/x'", "runs/x"),
        ("run_dir=~/runs/y", os.path.expanduser("~/runs/y")),
        ("run_dir='~/runs/y'", os.path.expanduser("~/runs/y")),
    ],
)
def test_values_that_hydra_cannot_read_are_quoted(typed, meant):
    assert compose_or_explain("train", ready([typed])).run_dir == meant


@pytest.mark.parametrize("away", ["logger=null", "logger=false", "~logger"])
def test_a_group_that_is_chosen_away_is_empty(away):
    assert ready([away]) == ["logger=none"]
    assert compose_or_explain("train", [away, "run_dir=x"]).logger == {}


@pytest.mark.parametrize("away", ["trainer=null", "verifier=null", "model=null", "~algorithm"])
def test_a_group_that_a_run_needs_is_one_sentence(away):
    with pytest.raises(UserError, match="cannot be left out: use one of"):
        ready([away])


def test_searches_and_experiments_may_be_null():
    given = ready(["experiment=null", "sweep=null", "seed=3", "-m"])
    assert given == ["~experiment", "~sweep", "seed=3", "-m"]
    assert compose_or_explain("train", given[:3]).seed == 3


@pytest.mark.parametrize(
    ("typed", "key", "meant"),
    [
        ("problems.prompt.chat_kwargs={a: false}", "problems.prompt.chat_kwargs", {"a": False}),
        ("problems.prompt.chat_kwargs.a=3", "problems.prompt.chat_kwargs", {"a": 3}),
        ("problems.source.options={min_terms: 2}", "problems.source.options", {"min_terms": 2}),
    ],
)
def test_nodes_with_keys_of_others_need_no_plus(typed, key, meant):
    for given in (typed, f"+{typed}"):
        cfg = compose_or_explain("train", ready(["problems=reasoning_gym", given]))
        assert OmegaConf.select(cfg, key) == meant


@pytest.mark.parametrize("added", ["+learning_rate=0.5", "++new.key=1", "+problems.foo=1"])
def test_an_added_key_that_nobody_reads_is_refused(added):
    with pytest.raises(UserError, match="is a key that nobody reads"):
        compose_or_explain("train", [added])


def test_added_keys_that_are_read():
    check_added(["+callbacks.mine._target_=a.B", "+trainer.max_steps=3", "++seed=1"], lambda: ["seed"])


def test_several_values_without_m_are_told_apart():
    with pytest.raises(UserError, match="is several values: add -m to try each, or write"):
        compose_or_explain("train", ["optimizer.learning_rate=1e-4,1e-3"])


def test_whatever_the_trainer_takes_needs_no_plus():
    cfg = compose_or_explain("train", ["trainer.max_time=00:01:00:00", "trainer.num_nodes=2"])
    assert (cfg.trainer.max_time, cfg.trainer.num_nodes) == ("00:01:00:00", 2)
    with pytest.raises(UserError, match=r"did you mean trainer\.num_nodes"):
        compose_or_explain("train", ["trainer.num_nods=2"])


def test_a_multirun_that_cannot_write_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="runs is a file"):
        offer_searches(["-m", "seed=0,1"])
    offer_searches(["-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}"])


def test_a_module_in_the_current_folder_is_found(tmp_path):
    (tmp_path / "reward_of_mine.py").write_text("def right(completion, gold):\n    return True\n")
    words = ["verifier=callable", "verifier.function=reward_of_mine.right", "seed=none"]
    code = "from nft_lightning.cli.train import main; main()"
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.getcwd()}
    line = [sys.executable, "-c", code, *words]
    ended = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "seed=" in ended.stderr, ended.stderr
    ended = subprocess.run(
        [*line[:-1], "verifier.function=reward_of_theirs.right"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "cannot be imported (No module named 'reward_of_theirs')" in ended.stderr
