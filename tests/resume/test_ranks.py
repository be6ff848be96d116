"""Runs of several ranks are preempted as a run of one is: a checkpoint, and the rest to the last bit."""

from __future__ import annotations

import pytest

from benchmarks.equal import differences
from nft_lightning.app.resume import find
from nft_lightning.checkpoints.folder import checkpoints, read_manifest
from nft_lightning.errors import UserError
from tests.forked_ranks import run_ranks
from tests.resume.conftest import brief

pytestmark = pytest.mark.slow
STRATEGIES = ("ddp", "fsdp2", "zero2", "zero3")


def preempted(parent, *overrides):
    result = run_ranks(2, "tests.resume.leaving_ranks", str(parent), *overrides, timeout_seconds=300)
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_leave_and_continue(tmp_path, strategy):
    keep = "callbacks.checkpoint.keep_last=50"
    preempted(tmp_path, f"trainer={strategy}", keep, "algorithm=grpo")
    assert differences(tmp_path / "whole", tmp_path / "cut") == []
    written = [read_manifest(path) for path in checkpoints(tmp_path / "cut" / "checkpoints")]
    assert [(w["epochs"], w["updates"]) for w in written if w["updates"] is not None] == [
        (0, 1),
        (0, 3),
        (1, 0),
        (1, 2),
        (1, 3),
    ]
    within = tmp_path / "cut" / "checkpoints" / "epoch_00001_update_0002"
    for path in checkpoints(tmp_path / "cut" / "checkpoints"):
        if path > within:
            path.rename(path.with_name(f"later-{path.name}"))
    one = brief(f"trainer={strategy}", keep, "algorithm=grpo", f"run_dir={tmp_path / 'cut'}")
    one.trainer.devices, one.resume = 1, "auto"
    with pytest.raises(UserError, match=r"trainer.devices=2 trainer.num_nodes=1 trainer.max_epochs=2"):
        find(one)
