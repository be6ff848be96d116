"""What travels beside problem and answer: other columns, token ids, which tokens are the policy's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from nft_lightning.batching.layout import layout
from nft_lightning.problems.jsonl import read_jsonl
from nft_lightning.rollouts.serialized import pack_rollout, unpack_rollout
from nft_lightning.types import Answer, Completion, Group, Problem, Rollout, Signal, Verdict
from nft_lightning.verifiers.function import FunctionVerifier
from nft_lightning.verifiers.weighted import WeightedVerifier

PROBLEM = Problem("p", "1+1", "2", extra={"level": 3, "tests": ["a", "b"]})
WHOLE = Completion((5, 6, 7, 8), "2", (-1.0,) * 4, False, 0)
PARTLY = replace(WHOLE, mask=(True, False, False, True))


def by_level(answer: Answer) -> bool:
    """A verifier that reads another column and the token ids."""
    return answer.problem.extra["level"] == len(answer.completion.token_ids) - 1


def by_text(completion: str, gold: str) -> bool:
    return completion == gold


def test_other_columns_of_a_file_are_kept(tmp_path):
    rows = [
        {"problem": f"{i}+1", "answer": i + 1, "level": i, "tags": ["x"], "source": None}
        for i in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    problems = read_jsonl(str(tmp_path / "rows.jsonl"), "problems.path")
    assert problems[2].extra == {"level": 2, "tags": ["x"], "source": None}
    assert hash(problems[0]) != hash(problems[1])


def test_a_function_of_one_argument_gets_the_whole_answer():
    verifier = FunctionVerifier(function=f"{__name__}.by_level")
    other = replace(PROBLEM, extra={"level": 9})
    answers = [Answer(PROBLEM, (1,), WHOLE), Answer(other, (1,), WHOLE)]
    assert [v.outcome for v in verifier.score(answers)] == ["correct", "wrong"]


def test_a_function_of_two_texts_still_works():
    verifier = FunctionVerifier(function=f"{__name__}.by_text")
    assert [v.outcome for v in verifier.score([Answer(PROBLEM, (1,), WHOLE)])] == ["correct"]


def test_parts_of_a_sum_get_the_whole_answer():
    parts = {
        name: {"weight": 1.0, "verifier": FunctionVerifier(function=f"{__name__}.{name}")}
        for name in ("by_level", "by_text")
    }
    (verdict,) = WeightedVerifier(parts=parts).score([Answer(PROBLEM, (1,), WHOLE)])
    assert verdict.score == 2.0


def rollout_of(*completions: Completion) -> Rollout:
    verdicts = tuple(Verdict("correct") for _ in completions)
    return Rollout((Group(PROBLEM, (1, 2), completions, verdicts, (1.0,) * len(completions)),), 0)


def test_what_travels_survives_a_checkpoint(tmp_path):
    rollout = rollout_of(WHOLE, PARTLY)
    torch.save(pack_rollout(rollout), tmp_path / "state.pt")
    assert unpack_rollout(torch.load(tmp_path / "state.pt", weights_only=True)) == rollout


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_tokens_of_others_are_read_and_not_trained_on(reduction):
    rollout = rollout_of(WHOLE, PARTLY)
    signal = Signal({"reward": rollout.rewards}, torch.ones(2, dtype=torch.bool))
    (batch,) = layout(
        rollout,
        signal,
        updates=1,
        max_tokens_per_micro_batch=100,
        reduction=reduction,
        max_new_tokens=4,
        seed=0,
    )
    (micro,) = batch.micro_batches
    rows = {
        tuple(mask.tolist()): weight for mask, weight in zip(micro.mask, micro.token_weight, strict=True)
    }
    whole = rows[(False, True, True, True, True)]
    partly = rows[(False, True, False, False, True)]
    assert micro.input_ids.tolist() == [[1, 2, 5, 6, 7, 8]] * 2
    each = (1 / 6, 1 / 6) if reduction == "token_mean" else (1 / 8, 1 / 4)
    assert whole.tolist() == pytest.approx([0, *[each[0]] * 4])
    assert partly.tolist() == pytest.approx([0, each[1], 0, 0, each[1]])
