from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf

from benchmarks.build_tiny import (
    Stage,
    build,
    build_tokenizer,
    draw_example,
    worked_answer,
)
from nft_lightning.app.build import CONF_DIR
from nft_lightning.errors import UserError
from nft_lightning.policy.loading import HFModel
from nft_lightning.problems.arithmetic import ArithmeticProblems
from nft_lightning.problems.base import is_held_out, shuffled_index
from nft_lightning.problems.listed import JsonlProblems
from nft_lightning.problems.prompts import prompt_ids


def test_arithmetic_is_right_and_splits_by_text():
    source = ArithmeticProblems()
    train = [source.problem(i, seed=3) for i in range(300)]
    held = source.held_out(100)
    assert len({p.text for p in held}) == 100
    assert not {p.text for p in train} & {p.text for p in held}
    for problem in train + held:
        # The text holds digits and signs alone, so this is safe to evaluate.
        assert set(problem.text) <= set("0123456789+-")
        assert eval(problem.text) == int(problem.answer)
    assert train[7] == source.problem(7, seed=3) != source.problem(7, seed=4)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"min_terms": 2, "max_terms": 2, "max_number": 3}, "evaluation"),
        ({"held_out_fraction": 0.99999}, "training"),
        ({"min_terms": 2, "max_terms": 2, "max_number": 5, "held_out_fraction": 1e-5}, "evaluation"),
    ],
)
def test_a_range_without_problems_is_refused_at_once(given, missing):
    with pytest.raises(UserError, match=f"leaves no {missing} problems"):
        ArithmeticProblems(**given)


def test_small_ranges_that_have_both_kinds_are_fine():
    source = ArithmeticProblems(min_terms=2, max_terms=2, max_number=5)
    assert source.held_out(3)
    assert source.problem(0, 0).text != source.held_out(1)[0].text


@pytest.mark.parametrize(
    "bad", [{"min_terms": 1}, {"max_terms": 2}, {"max_number": 1}, {"held_out_fraction": 0}]
)
def test_bad_ranges_are_refused(bad):
    with pytest.raises(UserError, match=next(iter(bad)).replace("max_terms", "min_terms")) as caught:
        ArithmeticProblems(**bad)
    # The key that is named is one of the config's.
    assert OmegaConf.select(OmegaConf.load(CONF_DIR / "problems" / "arithmetic.yaml"), key_of(caught))


def test_held_out_fraction():
    share = sum(is_held_out(str(i), 0.1) for i in range(20_000)) / 20_000
    assert 0.09 < share < 0.11


def test_every_pass_shows_each_problem_once():
    for passes in range(3):
        seen = [shuffled_index(passes * 11 + i, 11, seed=1) for i in range(11)]
        assert sorted(seen) == list(range(11))


def test_jsonl_with_a_file_for_evaluation(tmp_path):
    for name in ("train", "test"):
        rows = [{"problem": f"{name} {{x}} {i}", "answer": str(i)} for i in range(5)]
        (tmp_path / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    source = JsonlProblems(str(tmp_path / "train"), str(tmp_path / "test"))
    assert {source.problem(i, 0).text for i in range(5)} == {f"train {{x}} {i}" for i in range(5)}
    assert [p.answer for p in source.held_out(3)] == ["0", "1", "2"]


def test_too_few_problems_to_split(tmp_path):
    (tmp_path / "one").write_text('{"problem": "1", "answer": "1"}\n')
    with pytest.raises(UserError, match="held_out_fraction") as caught:
        JsonlProblems(str(tmp_path / "one"))
    assert OmegaConf.select(OmegaConf.load(CONF_DIR / "problems" / "jsonl.yaml"), key_of(caught))


def key_of(caught):
    """The key that an error names, below ``problems``."""
    return caught.value.field.removeprefix("problems.")


def test_templates_never_format_the_problem():
    tokenizer = build_tokenizer()
    ids = prompt_ids(tokenizer, "{problem}{0}", "equals")
    assert tokenizer.decode(list(ids)) == "{problem}{0}="
    with pytest.raises(UserError, match="chat template"):
        prompt_ids(tokenizer, "x", "chat")


def test_the_corpus_never_shows_a_held_out_problem():
    import random

    rng = random.Random(0)
    stage = Stage(1, 1e-3, direct=0.5, noisy=0.5)
    for _ in range(300):
        prompt, answer = draw_example(ArithmeticProblems(), rng, stage)
        assert not is_held_out(prompt.removesuffix("="), 0.1)
        assert answer.endswith("}")
    assert worked_answer("7+12-5") == "7+12=19\n19-5=14\n\\boxed{14}"


def test_the_build_script_makes_a_policy_that_loads(tmp_path):
    build((Stage(3, 1e-3, 0.5), Stage(2, 1e-3, 0.5, noisy=1.0)), tmp_path, seed=1, batch_size=8)
    again = tmp_path / "again"
    build((Stage(3, 1e-3, 0.5), Stage(2, 1e-3, 0.5, noisy=1.0)), again, seed=1, batch_size=8)
    first, second = HFModel(str(tmp_path)).load(1.0), HFModel(str(again)).load(1.0)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
