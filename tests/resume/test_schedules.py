"""A run that is continued has the rates of one that was never left, or those that it was given since."""

from __future__ import annotations

import pytest
import torch

from benchmarks.equal import differences
from nft_lightning.app import run as running
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.errors import UserError
from nft_lightning.training.module import PolicyModule
from tests.resume.conftest import brief
from tests.training.test_schedules import STEP

LOG = "{_target_:tests.training.test_schedules.inverse_root,_partial_:true}"


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", STEP, LOG])
def test_a_resumed_run_continues_its_schedule_exactly(tmp_path, leaving, schedule):
    options = (f"optimizer.schedule={schedule}", "optimizer.warmup_updates=2", "trainer.max_epochs=2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    running.run(brief(f"run_dir={whole}", *options))
    leaving(brief(f"run_dir={cut}", *options), "epoch 1 after 0")
    running.run(brief(f"run_dir={cut}", *options, "resume=auto"))
    assert differences(whole, cut) == []
    (state,) = read_checkpoint(cut / "checkpoints" / "last")["lr_schedulers"]
    assert state["last_epoch"] == 6


@pytest.mark.slow
def test_more_epochs_of_a_falling_rate_must_be_allowed(tmp_path):
    run = f"run_dir={tmp_path}"
    running.run(brief(run, "optimizer.schedule=linear", "trainer.max_epochs=1"))
    longer = ("optimizer.schedule=linear", "trainer.max_epochs=2", "resume=auto")
    with pytest.raises(UserError, match=r"add resume_allow=\[trainer.max_epochs\]"):
        running.run(brief(run, *longer))
    running.run(brief(run, *longer, "resume_allow=[trainer.max_epochs]"))
    (state,) = read_checkpoint(tmp_path / "checkpoints" / "last")["optimizer_states"]
    assert state["param_groups"][0]["lr"] == 0


@pytest.mark.slow
def test_another_kind_of_schedule_may_follow(tmp_path):
    run = f"run_dir={tmp_path}"
    running.run(brief(run, "trainer.max_epochs=1"))
    other = (f"optimizer.schedule={STEP}", "trainer.max_epochs=2", "resume=auto")
    running.run(brief(run, *other, "resume_allow=[optimizer.schedule,trainer.max_epochs]"))
    (state,) = read_checkpoint(tmp_path / "checkpoints" / "last")["optimizer_states"]
    assert state["param_groups"][0]["lr"] == pytest.approx(2e-4 * 0.1**3)


@pytest.mark.slow
def test_an_update_that_is_left_out_does_not_advance_the_schedule(tmp_path, monkeypatch):
    broken = iter([False, True, False])
    backward_one = PolicyModule.backward_one

    def sometimes_broken(self, micro, last):
        backward_one(self, micro, last)
        if last and next(broken):
            nothing = torch.zeros(())
            self.update.add(torch.tensor(float("nan")), nothing, nothing)

    monkeypatch.setattr(PolicyModule, "backward_one", sometimes_broken)
    running.run(brief(f"run_dir={tmp_path}", "optimizer.schedule=linear", "trainer.max_epochs=1"))
    state = read_checkpoint(tmp_path / "checkpoints" / "last")
    assert state["updates_done"] == 2
    assert state["lr_schedulers"][0]["last_epoch"] == 2
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(2e-4 / 3)


SGD = "{_target_:torch.optim.SGD,_partial_:true,momentum:0.9}"


@pytest.mark.slow
def test_an_optimizer_of_ones_own_is_resumed_exactly_and_by_no_other(tmp_path, leaving):
    options = (f"optimizer.custom={SGD}", "optimizer.learning_rate=1e-2", "trainer.max_epochs=2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    running.run(brief(f"run_dir={whole}", *options))
    leaving(brief(f"run_dir={cut}", *options), "epoch 1 after 0")
    other = ("optimizer.learning_rate=1e-2", "resume=auto", "resume_allow=[optimizer]")
    with pytest.raises(UserError, match=r"cannot continue with the state of torch\.optim\.SGD"):
        running.run(brief(f"run_dir={cut}", "trainer.max_epochs=2", *other))
    running.run(brief(f"run_dir={cut}", *options, "resume=auto"))
    assert differences(whole, cut) == []
