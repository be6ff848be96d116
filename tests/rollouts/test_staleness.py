"""Rollouts written by the weights of some rollouts ago."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.equal import differences
from nft_lightning.app import run as running
from nft_lightning.batching.config import BatchingConfig
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.distributed.preemption import Preempted
from nft_lightning.engines.base import EngineError
from nft_lightning.engines.hf.own_process import OwnProcess
from nft_lightning.errors import UserError
from nft_lightning.objectives import GRPO, NFT, RFT, SFT
from nft_lightning.problems.arithmetic import ArithmeticProblems
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.training.checks import check_objective
from nft_lightning.training.queue import RolloutQueue, Written
from nft_lightning.types import Rollout
from nft_lightning.verifiers.math.verifier import MathVerifier
from tests.forked_ranks import ROOT
from tests.resume.conftest import SETTINGS, brief, leaving  # noqa: F401

EPOCHS, UPDATES, STALENESS = 4, 3, 2


def weights(folder):
    return read_checkpoint(folder / "checkpoints" / "last")["state_dict"]


@pytest.fixture(scope="module")
def stale(tmp_path_factory):
    """The folder of a run whose rollouts are two rollouts old."""
    folder = tmp_path_factory.mktemp("stale") / "run"
    running.run(brief(f"run_dir={folder}", f"rollout.max_staleness={STALENESS}"))
    return folder


@pytest.mark.slow
def test_each_rollout_is_written_by_the_weights_of_two_rollouts_ago(stale):
    for epoch in range(EPOCHS):
        rows = pq.read_table(stale / "rollouts" / f"epoch_{epoch:04d}.parquet")
        versions = set(rows["policy_version"].to_pylist())
        assert versions == {UPDATES * max(0, epoch - STALENESS)}
    metrics = (stale / "metrics.csv").read_text().splitlines()
    column = metrics[0].split(",").index("rollout/staleness_updates")
    staleness = [float(v) for line in metrics[1:] if (v := line.split(",")[column])]
    assert staleness == [0, 3, 6, 6]


@pytest.mark.slow
def test_no_problem_is_left_out_or_asked_twice(stale):
    """The same problems in the same order as without staleness, where nothing is refilled."""
    seen = []
    for epoch in range(EPOCHS):
        rows = pq.read_table(stale / "rollouts" / f"epoch_{epoch:04d}.parquet")
        seen.append(set(rows["problem_id"].to_pylist()))
    for earlier, later in itertools.pairwise(seen):
        assert not earlier & later


@pytest.mark.slow
@pytest.mark.parametrize("place", ["epoch 0 generate", "epoch 1 generate", "epoch 2 after 0"])
def test_queued_rollouts_survive_a_resume(stale, leaving, tmp_path, place):  # noqa: F811
    cfg = brief(f"run_dir={tmp_path / 'run'}", f"rollout.max_staleness={STALENESS}", "resume=auto")
    assert leaving(cfg, place).exit_code == 75
    running.run(cfg)
    assert differences(stale, tmp_path / "run") == []


@pytest.mark.slow
def test_more_epochs_continue_a_finished_run(stale, tmp_path):
    folder = [f"run_dir={tmp_path / 'run'}", f"rollout.max_staleness={STALENESS}"]
    running.run(brief(*folder, "trainer.max_epochs=2"))
    running.run(brief(*folder, "resume=auto"))
    assert differences(stale, tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["nft", "ppo"])
def test_without_staleness_the_writer_and_the_trainer_agree(tmp_path, algorithm):
    made = {}
    for whose in ("writer", "trainer"):
        folder = tmp_path / whose
        words = [f"algorithm={algorithm}", f"rollout.old_logprobs={whose}", "trainer.max_epochs=1"]
        # AdamW would make whole steps of gradients that are nothing but rounding.
        words += ["optimizer.epsilon=1e-5"]
        running.run(brief(*words, f"run_dir={folder}", "callbacks.export=null"))
        made[whose] = weights(folder)
    for name, tensor in made["trainer"].items():
        assert torch.allclose(made["writer"][name], tensor, rtol=0, atol=2e-5), name


@pytest.mark.slow
def test_the_old_policy_is_the_one_that_was_asked_for(tmp_path):
    """At two rollouts of staleness the clipped losses of both ways differ, and both train."""
    made = {}
    for whose in ("writer", "trainer"):
        folder = tmp_path / whose
        words = ["algorithm=grpo", f"rollout.old_logprobs={whose}", "rollout.max_staleness=1"]
        words += ["trainer.max_epochs=2", "optimizer.learning_rate=1e-3", "callbacks.export=null"]
        running.run(brief(*words, f"run_dir={folder}"))
        made[whose] = weights(folder)
    assert any(not torch.equal(made["writer"][n], t) for n, t in made["trainer"].items())


OWN = ("rollout.engine.process=own", "rollout.engine.threads=1")


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """The folder of a run whose rollouts are written beside training."""
    folder = tmp_path_factory.mktemp("beside") / "run"
    running.run(brief(f"run_dir={folder}", f"rollout.max_staleness={STALENESS}", *OWN))
    return folder


@pytest.mark.slow
def test_a_process_of_its_own_writes_the_same(stale, beside):
    """To rounding: the last digits of log-probabilities differ between the two processes."""
    columns = ["problem_id", "token_ids", "policy_version", "reward"]
    ours, theirs = (
        pq.read_table(folder / "rollouts" / "epoch_0000.parquet") for folder in (stale, beside)
    )
    assert ours.select(columns) == theirs.select(columns)
    for one, other in zip(
        ours["engine_logprobs"].to_pylist(), theirs["engine_logprobs"].to_pylist(), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-4)
    assert "time/wait_seconds" in (beside / "metrics.csv").read_text()


@pytest.mark.slow
def test_writing_beside_training_changes_nothing(beside, tmp_path, monkeypatch):
    monkeypatch.setattr(RolloutQueue, "write_beside_training", lambda _: None)
    words = [f"run_dir={tmp_path / 'run'}", f"rollout.max_staleness={STALENESS}", *OWN]
    running.run(brief(*words))
    assert differences(beside, tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["epoch 0 generate", "epoch 1 update 1", "epoch 2 after 0"])
def test_what_is_written_beside_training_survives_a_resume(beside, leaving, tmp_path, place):  # noqa: F811
    words = [f"run_dir={tmp_path / 'run'}", f"rollout.max_staleness={STALENESS}", *OWN]
    cfg = brief(*words, "resume=auto")
    assert leaving(cfg, place).exit_code == 75
    running.run(cfg)
    assert differences(beside, tmp_path / "run") == []


@pytest.mark.slow
def test_the_command_ends_and_leaves_no_process(tmp_path):
    words = [*SETTINGS, *OWN, "rollout.max_staleness=1", "trainer.max_epochs=1"]
    command = [sys.executable, "-m", "nft_lightning.cli.train", *words, f"run_dir={tmp_path / 'run'}"]
    # The pipe of its output is closed once the engine's process has ended, too.
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.slow
def test_an_engine_that_dies_ends_the_run_with_one_sentence(monkeypatch, tmp_path):
    generate = OwnProcess.generate

    def killed(self, *given):
        if self.policy_version > 0:
            self.process.kill()
        return generate(self, *given)

    monkeypatch.setattr(OwnProcess, "generate", killed)
    words = [f"run_dir={tmp_path / 'run'}", "rollout.max_staleness=1", *OWN]
    with pytest.raises(EngineError, match="the engine's process has ended with exit code -9"):
        running.run(brief(*words))


def rollout(index: int) -> Written:
    return Written(Rollout((), index), 10 * (index + 1))


def test_the_queue_writes_ahead_and_forgets_what_is_taken():
    asked = []

    def write(cursor, index):
        asked.append((cursor, index))
        return rollout(index)

    queue = RolloutQueue(2)
    assert queue.fill(write, 0, 0) == rollout(0)
    assert asked == [(0, 0), (10, 1), (20, 2)]
    assert queue.fill(write, 0, 0) == rollout(0)  # nothing is written twice
    queue.taken()
    assert queue.fill(write, 10, 1) == rollout(1)
    assert asked[3:] == [(30, 3)]


def test_the_next_rollout_is_written_while_the_last_one_is_trained_on():
    queue, trained, written = RolloutQueue(1), threading.Event(), []
    queue.write_beside_training()

    def write(_, index):
        if index == 1:
            assert trained.wait(30), "training waited for a rollout that it does not need yet"
        written.append(index)
        return rollout(index)

    assert queue.fill(write, 0, 0) == rollout(0)
    queue.taken()
    trained.set()
    queue.settle()
    assert written == [0, 1]


def test_who_leaves_forgets_what_the_same_weights_will_write_again():
    queue, leave = RolloutQueue(1), threading.Event()
    queue.write_beside_training()

    def write(_, index):
        assert leave.wait(30)
        return rollout(index)

    asked = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    before = signal.signal(signal.SIGUSR1, lambda *_: raise_preempted())
    try:
        asked.start()
        with pytest.raises(Preempted):
            queue.fill(write, 0, 0)
    finally:
        signal.signal(signal.SIGUSR1, before)
        leave.set()
    assert not queue.waiting


def raise_preempted():
    raise Preempted(signal.SIGUSR1)


def test_what_goes_wrong_beside_training_is_raised_where_it_is_waited_for():
    queue = RolloutQueue(1)
    queue.write_beside_training()

    def write(_, index):
        if index:
            raise EngineError("the device fell off the bus")
        return rollout(0)

    queue.fill(write, 0, 0)
    with pytest.raises(EngineError, match="fell off the bus"):
        queue.settle()


@pytest.mark.parametrize(("staleness", "kept"), [(0, []), (1, [1]), (3, [1, 2])])
def test_a_queue_continues_with_what_it_may_hold(staleness, kept):
    queue = RolloutQueue(2)
    queue.fill(lambda _, index: rollout(index), 0, 0)
    queue.taken()
    other = RolloutQueue(staleness)
    other.load(queue.state())
    written = [future.result() for future in other.waiting]
    assert [w.rollout.policy_version for w in written] == kept
    assert [w.cursor for w in written] == [10 * (i + 1) for i in kept]


@pytest.mark.parametrize(
    ("objective", "given", "message"),
    [
        (NFT(), {"old_logprobs": "trainer"}, "rollout.old_logprobs='trainer' is not the policy whose"),
        (SFT(), {}, "rollout.max_staleness=1 has no effect on SFT"),
        (GRPO(importance_correction="truncate"), {}, "importance_correction='truncate' has no effect"),
    ],
)
def test_what_cannot_work_is_refused(objective, given, message):
    config = RolloutConfig(max_staleness=1, **given)
    problems, verifier = ArithmeticProblems(), MathVerifier()
    with pytest.raises(UserError) as refused:
        check_objective(objective, problems, verifier, config, BatchingConfig())
    assert message in str(refused.value)
    verifier.close()


@pytest.mark.parametrize("objective", [GRPO(importance_correction="truncate"), RFT()])
def test_a_decoupled_ratio_is_accepted(objective):
    config = RolloutConfig(max_staleness=1, old_logprobs="trainer")
    verifier = MathVerifier()
    check_objective(objective, ArithmeticProblems(), verifier, config, BatchingConfig())
    verifier.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_staleness": -1}, "rollout.max_staleness=-1 is below 0"),
        ({"old_logprobs": "engine"}, "rollout.old_logprobs='engine' is not known"),
    ],
)
def test_values_that_mean_nothing(given, message):
    with pytest.raises(UserError, match=message):
        RolloutConfig(**given)
