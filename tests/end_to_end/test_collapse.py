"""The alarm for a policy that falls apart."""

from __future__ import annotations

import logging

import pytest

from nft_lightning.app.run import run
from nft_lightning.callbacks.collapse import ACCURACY, EFFECTIVE, ENTROPY, CollapseAlarm
from nft_lightning.errors import UserError
from tests.resume.conftest import brief

GOOD = {ACCURACY: 0.8, ENTROPY: 0.5, EFFECTIVE: 0.9}


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({ACCURACY: 0.6}, "rollout/accuracy=0.600 has been at least 0.2 below its best, 0.800,"),
        ({ENTROPY: 0.004}, "policy/entropy_nats=0.004 has been more than 100 times away"),
        ({ENTROPY: 51.0}, "policy/entropy_nats=51 has been more than 100 times away"),
        ({EFFECTIVE: 0.19}, "objective/effective_sample_fraction=0.190 has been below 0.2"),
    ],
)
def test_a_sign_is_told_once_when_it_has_lasted(bad, sentence):
    alarm = CollapseAlarm(rollouts=2)
    assert alarm.lasting(GOOD) == []
    assert alarm.lasting(GOOD | bad) == []
    (told,) = alarm.lasting(GOOD | bad)
    assert told.startswith(sentence)
    assert told.endswith(" for 2 rollouts")
    assert alarm.lasting(GOOD | bad) == []


def test_a_good_rollout_begins_the_count_again():
    alarm = CollapseAlarm(rollouts=2)
    bad = GOOD | {EFFECTIVE: 0.1}
    for metrics in (GOOD, bad, GOOD, bad, GOOD):
        assert alarm.lasting(metrics) == []


@pytest.mark.parametrize("accuracy", [0.61, 0.9])
def test_what_goes_up_and_down_is_no_collapse(accuracy):
    alarm = CollapseAlarm(rollouts=1)
    assert alarm.lasting(GOOD) == []
    assert alarm.lasting(GOOD | {ACCURACY: accuracy, ENTROPY: 0.03, EFFECTIVE: 0.3}) == []


def test_half_of_a_low_accuracy_is_enough():
    alarm = CollapseAlarm(rollouts=1)
    low = GOOD | {ACCURACY: 0.22}
    assert alarm.lasting(low) == alarm.lasting(low | {ACCURACY: 0.12}) == []
    (told,) = alarm.lasting(low | {ACCURACY: 0.11})
    assert told.startswith("rollout/accuracy=0.110 has been at least 0.11 below its best, 0.220,")


def test_a_policy_that_is_never_right_has_nothing_to_lose():
    alarm = CollapseAlarm(rollouts=1)
    never = GOOD | {ACCURACY: 0.0}
    assert alarm.lasting(never) == alarm.lasting(never) == []


def test_a_resumed_run_continues_to_count():
    before, after = CollapseAlarm(rollouts=2), CollapseAlarm(rollouts=2)
    before.lasting(GOOD)
    before.lasting(GOOD | {ACCURACY: 0.1})
    after.load_state_dict(before.state_dict())
    assert len(after.lasting(GOOD | {ACCURACY: 0.1})) == 1


def test_an_action_that_does_not_exist():
    with pytest.raises(UserError, match="is not known: use one of warn, stop"):
        CollapseAlarm("shout")


@pytest.mark.slow
@pytest.mark.parametrize("action", ["warn", "stop"])
def test_a_run_that_does_collapse(tmp_path, caplog, action):
    words = ["optimizer.learning_rate=0.02", "trainer.max_epochs=6", "algorithm=reinforce"]
    words += ["callbacks.collapse.rollouts=2", "callbacks.collapse.accuracy_drop=0.15"]
    with caplog.at_level(logging.WARNING):
        summary = run(brief(*words, f"callbacks.collapse.action={action}", f"run_dir={tmp_path}"))
    told = [r.getMessage() for r in caplog.records if "begin again from a checkpoint" in r.getMessage()]
    assert told
    assert all("resume=RUN/checkpoints/NAME optimizer.learning_rate=RATE" in text for text in told)
    # Which sign comes first, and so ends a run, is the run's own; where it continues accuracy falls too.
    assert action == "stop" or sum("below its best" in text for text in told) == 1
    assert summary["ended_by"] == {"warn": "max_epochs", "stop": "callbacks"}[action]
    assert (summary["epochs"] < 6) == (action == "stop")
