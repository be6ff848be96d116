"""A run is not lost to a problem whose prompt is too long."""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from nft_lightning.app.parts import build_parts
from nft_lightning.app.run import run
from nft_lightning.cli import evaluate as command
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.common.timing import PhaseTimer
from nft_lightning.engines.base import EngineError
from nft_lightning.errors import RunStoppedError, UserError
from nft_lightning.problems.prompts import PromptConfig
from nft_lightning.problems.room import Room, told, unusable
from nft_lightning.rollouts import drawn as drawn_module
from nft_lightning.rollouts.collector import Collector
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.rollouts.drawn import Drawn, askable
from nft_lightning.types import Completion, Problem
from nft_lightning.verifiers.rewards import RewardRules
from tests.problems.made_tokenizer import made_tokenizer
from tests.rollouts.test_refill import AllAtOnce, OneAfterTheOther, ScriptedVerifier

LONG = "+".join(["11"] * 200)


def problem_file(folder, long=(13, 41, 42), count=60, name="p.jsonl"):
    rows = [
        {"problem": LONG if i in long else f"{i}+{i % 7}", "answer": str(i + i % 7), "id": f"p{i}"}
        for i in range(count)
    ]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def overrides(folder, *more):
    test = problem_file(folder, long=(1,), count=6, name="test.jsonl")
    return [
        "problems=jsonl",
        f"problems.path={problem_file(folder)}",
        f"problems.eval_path={test}",
        "problems.prompt.template=equals",
        "algorithm=grpo",
        "rollout.problems_per_rollout=10",
        "rollout.completions_per_problem=2",
        "rollout.max_new_tokens=24",
        "evaluation.problems=6",
        "evaluation.completions_per_problem=2",
        "evaluation.every_epochs=10",
        "batching.updates_per_rollout=1",
        "trainer.max_epochs=7",
        *more,
    ]


def table(run_dir):
    with open(run_dir / "metrics.csv") as lines:
        return [row for row in csv.DictReader(lines) if row.get("rollout/tokens")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    from hydra import compose, initialize_config_dir

    from nft_lightning.app.build import CONF_DIR

    with initialize_config_dir(str(CONF_DIR.resolve())):
        cfg = compose("train", overrides(folder, f"run_dir={folder / 'run'}"))
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    log = logging.getLogger("nft_lightning.rollouts.drawn")
    log.addHandler(handler)
    summary = run(cfg)
    log.removeHandler(handler)
    return folder, summary, records


def drawn_ids(run_dir):
    found = []
    for path in sorted((run_dir / "rollouts").glob("*.parquet")):
        rows = pq.read_table(path).to_pylist()
        found.append(list(dict.fromkeys(row["problem_id"] for row in rows)))
    return found


def test_the_others_take_their_place_and_it_is_counted(finished):
    folder, summary, records = finished
    assert summary["epochs"] == 7
    rows = table(folder / "run")
    fractions = [float(row["rollout/overlong_prompt_fraction"]) for row in rows]
    # 70 problems are asked, so one pass of 57 and part of another: three and more are passed over.
    refused = [round(10 * f / (1 - f)) for f in fractions]
    assert 3 <= sum(refused) <= 6
    assert float(rows[-1]["progress/problems"]) == 70 + sum(refused)
    assert all(float(row["rollout/completions"]) == 20 for row in rows)
    asked = {i for epoch in drawn_ids(folder / "run") for i in epoch}
    assert not asked & {"p13", "p41", "p42"}
    assert len(records) == 1
    assert "a problem is passed over" in records[0]
    # Held-out problems too, and the start says so.
    evaluated = pq.read_table(next((folder / "run" / "evaluations").glob("*.parquet"))).to_pylist()
    assert {row["problem_id"] for row in evaluated} == {"p0", "p2", "p3", "p4", "p5"}
    page = (folder / "run" / "samples.md").read_text()
    assert "The first problem's prompt, as the model reads it:\n\n    0+0=\n" in page


def test_the_start_says_what_is_left_out(compose_config, tmp_path):
    parts = build_parts(compose_config(*overrides(tmp_path, "run_dir=x")))
    training, held_out = parts.asked.left_out
    assert training.startswith("3 of 60 training problems (p13, p41, p42): rollout.max_new_tokens=24")
    assert held_out.startswith("1 of 6 held-out problems (p1): ")
    assert parts.asked.room.context_tokens == 256


def test_a_resume_draws_what_a_run_left_alone_draws(finished, compose_config, tmp_path):
    folder, _, _ = finished
    words = overrides(folder, f"run_dir={tmp_path / 'run'}", "callbacks.checkpoint.every_epochs=1")
    words[words.index("trainer.max_epochs=7")] = "trainer.max_epochs=3"
    run(compose_config(*words))
    words[words.index("trainer.max_epochs=3")] = "trainer.max_epochs=7"
    run(compose_config(*words, "resume=auto"))
    assert drawn_ids(tmp_path / "run") == drawn_ids(folder / "run")
    columns = ("rollout/overlong_prompt_fraction", "progress/problems", "objective/loss")
    for one, two in zip(table(tmp_path / "run"), table(folder / "run"), strict=True):
        assert [one[c] for c in columns] == [two[c] for c in columns]


def test_a_run_with_nothing_left_ends_before_a_model_is_loaded(compose_config, tmp_path):
    path = problem_file(tmp_path, long=range(60), name="all.jsonl")
    words = [*overrides(tmp_path, "run_dir=x"), f"problems.path={path}"]
    with pytest.raises(
        UserError, match=r"max_new_tokens=24 and a prompt of \d+ tokens exceed the context"
    ):
        build_parts(compose_config(*words))


def test_the_engines_own_limit_counts(compose_config, tmp_path):
    pytest.importorskip("vllm")
    words = overrides(tmp_path, "run_dir=x", "rollout=vllm", "rollout.engine.max_model_len=26")
    with pytest.raises(UserError, match="exceed the context of 26 tokens"):
        build_parts(compose_config(*words))


def numbered(position):
    """Every third problem is too long."""
    return Problem(str(position), "x" * (50 if position % 3 == 0 else 5), "1")


class Numbered:
    def problem(self, index, seed):
        return numbered(index)


def collector(engine, context_tokens=None, **options):
    plan = RolloutConfig(problems_per_rollout=9, completions_per_problem=3, max_generation_rounds=4)
    encode = lambda text: tuple(map(ord, text))  # noqa: E731
    made = (Numbered(), engine, ScriptedVerifier(), RewardRules(), encode, plan, PhaseTimer())
    return Collector(*made, room=Room(plan.max_new_tokens, context_tokens), **options)


@pytest.mark.parametrize("drop", [False, True])
def test_rounds_and_refills_pass_over_the_same(drop):
    class Varied(OneAfterTheOther):
        pass

    one, cursor = collector(OneAfterTheOther(), context_tokens=100).collect(7, 0, 2, drop)
    for seed in range(4):
        two = collector(AllAtOnce(seed), context_tokens=100).collect(7, 0, 2, drop)
        assert two == (one, cursor)
    assert all(int(group.problem.id) % 3 for group in one.groups)
    assert one.metrics["rollout/overlong_prompt_fraction"] == pytest.approx(1 / 3, abs=0.08)
    if not drop:
        assert [g.problem.id for g in one.groups] == ["7", "8", "10", "11", "13", "14", "16", "17", "19"]
        assert cursor == 20


def test_solutions_are_read_without_them_too():
    class Solved(Numbered):
        def problem(self, index, seed):
            return Problem(str(index), numbered(index).text, "1", "so 1")

    made = collector(OneAfterTheOther(), context_tokens=100, encode_solution=lambda text: (5, 2))
    made.source = Solved()
    rollout, cursor = made.read_solutions(0, 0, 0)
    assert [g.problem.id for g in rollout.groups] == ["1", "2", "4", "5", "7", "8", "10", "11", "13"]
    assert cursor == 14


def test_a_prompt_that_cannot_be_made_is_passed_over_as_well():
    tokenizer = made_tokenizer()
    texts = ["1", "\ud83d", "3"]
    problems = [Problem(str(i), text, "1") for i, text in enumerate(texts)]
    encode = lambda text: PromptConfig("plain").encode(tokenizer, text)  # noqa: E731
    found = Drawn(problems.__getitem__, encode, lambda i: [i], Room(4, None), 0)
    assert [found[i].problem.id for i in range(2)] == ["0", "2"]
    assert "half a surrogate" in str(found.why)
    refused = unusable(problems, PromptConfig("plain"), tokenizer, Room(4, None))
    assert list(refused) == [1]
    assert told(problems, refused, "problems").startswith("1 of 3 problems (1): problem='?'")


@pytest.mark.parametrize("name", ["id", "answer", "solution"])
def test_a_problem_that_no_file_could_hold_is_passed_over(name):
    good = Problem("a", "1", "1", "so 1")
    problems = [replace(good, **{name: "\ud83d"}), good]
    found = Drawn(problems.__getitem__, lambda text: (1, 2), lambda i: [i], Room(4, None), 0)
    assert found[0].problem == good
    assert str(found.why).startswith(f"{name}='?' holds half a surrogate")
    refused = unusable(problems, PromptConfig("plain"), made_tokenizer(), Room(4, None))
    assert list(refused) == [0]
    assert askable(problems, lambda text: (1, 2), Room(4, 100)) == [good]


def test_a_stream_of_nothing_else_ends_in_a_sentence(monkeypatch):
    monkeypatch.setattr(drawn_module, "MOST_IN_A_ROW", 50)
    made = collector(OneAfterTheOther(), context_tokens=10)
    with pytest.raises(RunStoppedError, match=r"none of 50 problems in a row can be asked; .*exceed"):
        made.collect(0, 0, 0, False)


def evaluation(folder, out, *more):
    path = problem_file(folder, long=(2, 5), count=8, name="e.jsonl")
    words = ["eval=jsonl", f"eval.path={path}", "eval.prompt.template=equals", f"out={out}"]
    words += ["eval.max_new_tokens=24", "eval.sets.jsonl.completions_per_problem=2"]
    return compose_or_explain("evaluate", [*words, *more])


def test_an_evaluation_leaves_them_out_and_says_so(tmp_path, capsys):
    command.evaluate(evaluation(tmp_path, tmp_path / "out"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["left_out"] == {"jsonl": ["p2", "p5"]}
    assert results["sets"][0]["problems"] == 6
    assert "Left out: 2 of 8 problems of jsonl (p2, p5): eval" in capsys.readouterr().out
    assert "Left out of jsonl" in (tmp_path / "out" / "results.md").read_text()
    # The same command counts what is there.
    command.evaluate(evaluation(tmp_path, tmp_path / "out"))
    with pytest.raises(UserError, match=r"eval\.max_new_tokens=255 and a prompt"):
        command.prepare(evaluation(tmp_path, tmp_path / "o2", "eval.max_new_tokens=255"))


def test_completions_are_still_all_asked_for():
    class Short(OneAfterTheOther):
        def generate(self, prompts, sampling, seeds):
            return [[Completion((5, 2), "right", (-1.0, -1.0), False, 3)] for _ in prompts]

    with pytest.raises(EngineError, match="9 completions where 27 were asked"):
        collector(Short(), context_tokens=100).collect(0, 0, 0, False)
