"""Rollouts written by the weights of some rollouts ago."""

from __future__ import annotations

import itertools

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.equal import differences
from nft_lightning.app import run as running
from nft_lightning.batching.config import BatchingConfig
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.errors import UserError
from nft_lightning.objectives import GRPO, NFT, RFT, SFT
from nft_lightning.problems.arithmetic import ArithmeticProblems
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.training.checks import check_objective
from nft_lightning.training.queue import RolloutQueue, Written
from nft_lightning.types import Rollout
from nft_lightning.verifiers.math.verifier import MathVerifier
from tests.resume.conftest import brief, leaving  # noqa: F401

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
@pytest.mark.parametrize("place", ["epoch 0 generate", "epoch 1 generate", "epoch 2 after 0", "epoch 2"])
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


@pytest.mark.parametrize(("staleness", "kept"), [(0, []), (1, [1]), (3, [1, 2])])
def test_a_queue_continues_with_what_it_may_hold(staleness, kept):
    queue = RolloutQueue(2)
    queue.fill(lambda _, index: rollout(index), 0, 0)
    queue.taken()
    other = RolloutQueue(staleness)
    other.load(queue.state())
    assert [w.rollout.policy_version for w in other.waiting] == kept
    assert [w.cursor for w in other.waiting] == [10 * (i + 1) for i in kept]


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
