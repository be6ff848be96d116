"""``resume=RUN/checkpoints/NAME``: a new run from a checkpoint of another, which stays as it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from benchmarks.equal import differences
from nft_lightning.app import run as running
from nft_lightning.app.branch import checkpoint_of
from nft_lightning.app.resume import expand_resume
from nft_lightning.errors import UserError
from tests.processes import cli
from tests.resume.conftest import SETTINGS, brief

pytestmark = pytest.mark.slow
KEPT = (*SETTINGS, "callbacks.checkpoint.keep_last=9")
SLOWER = ("optimizer.learning_rate=5e-5", "resume_allow=[optimizer.learning_rate]")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of four epochs that keeps every checkpoint."""
    folder = tmp_path_factory.mktemp("with a space") / "run"
    ended = cli(*KEPT, f"run_dir='{folder}'")
    assert ended.returncode == 0, ended.stderr
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_it_ends_as_the_run_that_it_left(whole):
    before = contents(whole)
    ended = cli(f"resume={whole}/checkpoints/epoch_00002")
    assert ended.returncode == 0, ended.stderr
    assert contents(whole) == before
    branch = whole.with_name("run_from_epoch_00002")
    assert differences(whole, branch) == []
    again = cli(f"resume={whole}/checkpoints/epoch_00002")
    assert again.returncode == 2
    assert f"holds a run already: continue it with resume={branch}" in again.stderr


def test_another_rate_is_learned_with_as_in_a_run_that_was_resumed(whole, tmp_path):
    resumed, branch = tmp_path / "resumed", tmp_path / "branch"
    running.run(brief(KEPT[-1], f"run_dir={resumed}", "trainer.max_epochs=2"))
    running.run(brief(KEPT[-1], f"run_dir={resumed}", "resume=auto", *SLOWER))
    ended = cli(f"resume={whole}/checkpoints/epoch_00002", f"run_dir={branch}", *SLOWER)
    assert ended.returncode == 0, ended.stderr
    assert differences(resumed, branch) == []
    (change,) = json.loads((branch / "changes.json").read_text())
    assert change["changed"] == {"optimizer.learning_rate": [2e-4, 5e-5]}
    # From now on it is a run like any other.
    longer = cli(f"resume={branch}", "trainer.max_epochs=5")
    assert longer.returncode == 0, longer.stderr
    assert json.loads((branch / "summary.json").read_text())["epochs"] == 5


def test_what_is_refused_leaves_nothing(whole, tmp_path):
    words = [f"resume={whole}/checkpoints/last", f"run_dir={tmp_path / 'branch'}"]
    for more, sentence in (
        ("optimizer.learning_rate=5e-5", "add resume_allow=[optimizer.learning_rate]"),
        ("trainer.max_epochs=3", "trainer.max_epochs=3 is less than the run has done"),
    ):
        ended = cli(*words, more)
        assert ended.returncode == 2
        assert sentence in ended.stderr
        assert not (tmp_path / "branch" / "config.yaml").exists()


def test_a_damaged_one_is_not_replaced_by_another(whole, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(whole, copy, symlinks=True)
    weights = copy / "checkpoints" / "epoch_00002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    ended = cli(f"resume={copy}/checkpoints/epoch_00002")
    assert ended.returncode == 1
    assert f"stopped: {weights} has " in ended.stderr
    assert not (tmp_path / "run_from_epoch_00002" / "config.yaml").exists()


def test_two_ranks_begin_one(whole, tmp_path):
    branch = tmp_path / "branch"
    words = [f"resume={whole}/checkpoints/epoch_00003", f"run_dir={branch}"]
    ended = cli(*words, "trainer=ddp", "trainer.devices=2", timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((branch / "summary.json").read_text())["updates"] == 12


def test_only_a_checkpoint_of_a_run_is_one(whole, tmp_path):
    places = whole / "checkpoints"
    assert checkpoint_of(str(places / "last")) == places / "epoch_00004"
    for other in (None, "auto", str(whole), str(places), str(places / "epoch_00009")):
        assert checkpoint_of(other) is None
    with pytest.raises(UserError, match="is no checkpoint of its run: use one of epoch_00001, epoch_0"):
        expand_resume([f"resume={places / 'epoch_00009'}"])
