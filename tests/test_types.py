"""Completions: arrays that nobody changes, compared as values, small where they are sent."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from nft_lightning.records.rollouts import TOKENS, answers, write
from nft_lightning.rollouts.serialized import pack_groups, unpack_groups
from nft_lightning.types import Completion, Group, Problem, Verdict

MADE = Completion((5, 151_935, 2), "ab", (-0.5, -0.25, -1.0), False, 3, (True, False, True))
ARRAYS = ("token_ids", "logprobs", "mask")


def group_of(*completions: Completion) -> Group:
    verdicts = tuple(Verdict("wrong") for _ in completions)
    return Group(Problem("p", "1+1", "2"), (1, 7), completions, verdicts, (0.0,) * len(completions))


def test_any_sequence_becomes_arrays_of_its_own():
    given = np.array([5, 151_935, 2])
    made = replace(MADE, token_ids=given)
    given[0] = 9
    assert made == MADE
    assert [getattr(made, name).dtype for name in ARRAYS] == [np.int32, np.float32, np.bool_]
    assert made.written == 2
    assert replace(made, mask=None).written == 3


@pytest.mark.parametrize("made", [MADE, copy.deepcopy(MADE), pickle.loads(pickle.dumps(MADE))])
@pytest.mark.parametrize("name", ARRAYS)
def test_nobody_writes_to_them(made, name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(made, name)[0] = 0


def test_completions_compare_as_values():
    again = replace(MADE)
    assert again == MADE
    assert hash(again) == hash(MADE)
    assert group_of(MADE, again) == group_of(again, MADE)
    assert len({MADE, again, pickle.loads(pickle.dumps(MADE))}) == 1
    undefined = replace(MADE, logprobs=(-0.5, float("nan"), -1.0))
    assert undefined == replace(undefined)


@pytest.mark.parametrize(
    "changed",
    [
        {"token_ids": (5, 6, 2)},
        {"token_ids": (5, 151_935)},
        {"text": "a"},
        {"logprobs": (-0.5, -0.25, -0.9)},
        {"truncated": True},
        {"policy_version": 4},
        {"mask": None},
        {"mask": (True, True, True)},
    ],
)
def test_each_field_counts(changed):
    other = replace(MADE, **changed)
    assert other != MADE
    assert group_of(other) != group_of(MADE)


def test_a_completion_equals_nothing_else():
    assert MADE != (5, 151_935, 2)


def test_a_token_is_sent_in_eight_bytes():
    tokens = 2000
    made = Completion([151_935] * tokens, "", [-0.1] * tokens, False, 0)
    other = replace(made, policy_version=1)
    assert len(pickle.dumps([made, other])) - len(pickle.dumps([made])) < 8 * tokens + 200


def test_checkpoints_of_tuples_are_read():
    packed = pack_groups([group_of(MADE, replace(MADE, mask=None))])
    for name, dtype in (("token_ids", torch.int64), ("logprobs", torch.float64)):
        flat, lengths = packed[name]
        packed[name] = (flat.to(dtype), lengths)
    packed["masks"] = [(True, False, True), None]
    assert unpack_groups(packed) == [group_of(MADE, replace(MADE, mask=None))]


def test_records_hold_the_tokens(tmp_path):
    write(answers([group_of(MADE)], TOKENS), tmp_path / "epoch.parquet")
    (row,) = pq.read_table(tmp_path / "epoch.parquet").to_pylist()
    assert row["token_ids"] == [5, 151_935, 2]
    assert row["engine_logprobs"] == [-0.5, -0.25, -1.0]
    assert row["length_tokens"] == 3
