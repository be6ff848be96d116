"""A run that was asked to leave anywhere continues as if nothing had happened, to the last bit."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf

from benchmarks.equal import differences
from nft_lightning.app import run as running
from nft_lightning.checkpoints.folder import read_checkpoint
from tests.resume.conftest import brief
from tests.resume.leave import Leave

pytestmark = pytest.mark.slow

KINDS = {
    "nft": ("algorithm=nft",),
    "ppo": ("algorithm=ppo",),
    "grpo with a reference": ("algorithm=grpo", "algorithm.kl_coefficient=0.1"),
}


@pytest.fixture(scope="module", params=KINDS)
def undisturbed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"

    def make(*more):
        return brief(*KINDS[request.param], *more)

    running.run(make(f"run_dir={folder}"))
    return folder, make


PLACES = (
    "epoch 0 evaluation validate",
    "epoch 0 verify",
    "epoch 1",
    "epoch 1 sync",
    "epoch 1 generate",
    "epoch 1 old_logprobs",
    "epoch 1 update 0",
    "epoch 1 after 0",
    "epoch 2 after 1",
    "epoch 1 after 2",
    "epoch 1 evaluation fit",
    "epoch 1 end",
    "epoch 2 after 2",
    "epoch 3 after 2",
    "epoch 3 evaluation fit",
)


@pytest.mark.parametrize("place", PLACES)
def test_leave_and_go_on(undisturbed, leaving, tmp_path, place):
    reference, make = undisturbed
    if "old_logprobs" not in place and "evaluation" not in place and "after" not in place:
        kind = OmegaConf.load(reference / "config.yaml").algorithm._target_
        if not kind.endswith("NFT"):
            pytest.skip("the algorithms differ within an epoch alone")
    cfg = make(f"run_dir={tmp_path / 'run'}", "resume=auto")
    left = leaving(cfg, place)
    assert left.exit_code == 75
    rolled_out = Leave.seen.count("epoch 1 generate")
    running.run(cfg)
    assert differences(reference, tmp_path / "run") == []
    if place == "epoch 1 after 0":
        assert Leave.seen.count("epoch 1 generate") == rolled_out, "the rollout was made again"
    summaries = [json.loads((f / "summary.json").read_text()) for f in (reference, tmp_path / "run")]
    for name in ("before", "after", "epochs", "updates", "tokens", "ended_by"):
        assert summaries[0][name] == summaries[1][name]


def test_a_critic_of_its_own_continues(leaving, tmp_path):
    def make(*more):
        return brief("algorithm=ppo", "algorithm.critic=own", "trainer.max_epochs=2", *more)

    running.run(make(f"run_dir={tmp_path / 'whole'}"))
    cfg = make(f"run_dir={tmp_path / 'run'}", "resume=auto")
    leaving(cfg, "epoch 1 after 0")
    running.run(cfg)
    assert differences(tmp_path / "whole", tmp_path / "run") == []
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last")["state_dict"]
    moved = [k for k in state if k.startswith("critic.trunk.layers")]
    assert moved
    assert any((state[k] != state[k.replace("critic.trunk", "policy.model.model")]).any() for k in moved)


def test_left_again_and_again(undisturbed, leaving, tmp_path):
    reference, make = undisturbed
    cfg = make(f"run_dir={tmp_path / 'run'}", "resume=auto")
    for place in ("epoch 0 after 0", "epoch 0 after 1", "epoch 0 after 2", "epoch 2", "epoch 2 after 0"):
        leaving(cfg, place)
    running.run(cfg)
    assert differences(reference, tmp_path / "run") == []


def test_more_epochs_continue_a_finished_run(undisturbed, tmp_path):
    reference, make = undisturbed
    folder = f"run_dir={tmp_path / 'run'}"
    running.run(make(folder, "trainer.max_epochs=3"))
    running.run(make(folder, "resume=auto"))
    assert differences(reference, tmp_path / "run") == []


def test_a_checkpoint_after_every_update_changes_nothing(undisturbed, tmp_path):
    reference, make = undisturbed
    running.run(make(f"run_dir={tmp_path / 'run'}", "callbacks.checkpoint.every_minutes=0"))
    assert differences(reference, tmp_path / "run") == []


def test_the_comparison_sees_a_difference(undisturbed, tmp_path):
    reference, make = undisturbed
    running.run(make(f"run_dir={tmp_path / 'run'}", "optimizer.learning_rate=1.001e-4"))
    found = differences(reference, tmp_path / "run")
    assert any("state_dict" in d for d in found)
    assert any("optimizer" in d for d in found)
    assert any("metrics.csv" in d for d in found)
    assert "rollouts epoch_0002.parquet" in found or "rollouts epoch_0003.parquet" in found
    state = read_checkpoint(reference / "checkpoints" / "last")
    assert "reference" in state or not reference.match("*reference*")


def test_masters_go_on(leaving, tmp_path):
    pure = ("trainer.precision=bf16-true", "trainer.max_epochs=2", "optimizer.learning_rate=1e-5")
    running.run(brief(*pure, f"run_dir={tmp_path / 'whole'}"))
    cut = brief(*pure, f"run_dir={tmp_path / 'run'}", "resume=auto")
    for place in ("epoch 0 after 0", "epoch 1", "epoch 1 after 1"):
        leaving(cut, place)
    running.run(cut)
    assert differences(tmp_path / "whole", tmp_path / "run") == []
    saved = read_checkpoint(tmp_path / "whole" / "checkpoints" / "last")
    states = saved["optimizer_states"][0]["state"].values()
    # They hold what the weights have lost.
    assert any(not torch.equal(s["master"], s["master"].bfloat16().float()) for s in states)
