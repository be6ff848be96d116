from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nft_lightning.cli import evaluate as command
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.errors import UserError
from nft_lightning.evaluation.results import evaluate_set, mean_over_sets
from nft_lightning.stats.majority import majority_at_k
from nft_lightning.verdict import Verdict
from tests.forked_ranks import run_ranks
from tests.processes import cli

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "math_eval"
SMALL = [
    "eval.sets.arithmetic.problems=6",
    "eval.sets.arithmetic.completions_per_problem=4",
    "eval.problems_per_part=2",
]
BRIEF = [
    "rollout.problems_per_rollout=8",
    "batching.updates_per_rollout=2",
    "evaluation.problems=4",
    "evaluation.every_epochs=1",
    "trainer.max_epochs=2",
]


def nft_eval(out, *overrides):
    command.evaluate(compose_or_explain("evaluate", [f"out={out}", *SMALL, *overrides]))
    return json.loads((out / "results.json").read_text())


def parts(out):
    return {p.name: p.stat().st_mtime_ns for p in (out / "arithmetic").glob("part_*.parquet")}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("eval") / "out"
    return out, nft_eval(out)


def test_the_numbers_are_those_of_the_answers(done):
    out, results = done
    rows = [r for p in sorted(parts(out)) for r in pq.read_table(out / "arithmetic" / p).to_pylist()]
    assert len(rows) == 24
    (found,) = results["sets"]
    right = sum(r["verdict"] == "correct" for r in rows)
    assert found["avg"]["mean"] == pytest.approx(right / 24)
    assert found["avg"]["low"] <= found["avg"]["mean"] <= found["avg"]["high"]
    by_problem = {}
    for r in rows:
        by_problem.setdefault(r["problem_id"], []).append(Verdict(r["verdict"], r["extracted"]))
    any_right = sum(any(v.correct for v in vs) for vs in by_problem.values()) / 6
    assert found["passed"]["4"]["mean"] == pytest.approx(any_right)
    votes = sum(majority_at_k(vs, 4) for vs in by_problem.values()) / 6
    assert found["majority"]["4"]["mean"] == pytest.approx(votes)
    assert set(found["passed"]) == {"1", "2", "4"}
    assert sum(found["verdicts"].values()) == pytest.approx(1)
    problems = pq.read_table(out / "problems.parquet").to_pylist()
    assert sum(p["right"] for p in problems) == right
    assert "arithmetic" in (out / "results.md").read_text()


def test_a_finished_evaluation_is_not_run_again(done, monkeypatch):
    out, results = done
    before = parts(out)

    def never(*_):
        raise AssertionError("an engine was built")

    monkeypatch.setattr("nft_lightning.engines.hf.engine.HFEngineConfig.build", never)
    assert nft_eval(out) == results
    assert parts(out) == before


def test_an_interrupted_evaluation_goes_on_where_it_stopped(done):
    out, results = done
    lost = out / "arithmetic" / "part_0001.parquet"
    text, before = pq.read_table(lost), parts(out)
    lost.unlink()
    assert nft_eval(out) == results
    after = parts(out)
    assert {n for n in before if after[n] != before[n]} == {"part_0001.parquet"}
    columns = ["problem_id", "sample", "completion", "verdict"]
    assert pq.read_table(lost).select(columns) == text.select(columns)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("eval.temperature=0.6", "sampling"),
        ("seed=1", "seed"),
        ("model.name=tiny_unsure", "model"),
        ("verifier.truncated=unparsable", "verifier"),
    ],
)
def test_answers_under_another_protocol_are_not_mixed(done, override, named):
    out, _ = done
    before = parts(out)
    with pytest.raises(
        UserError, match=f"holds answers to arithmetic with another {named} .*give another"
    ):
        nft_eval(out, override)
    assert parts(out) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run=nowhere"], "run='nowhere' holds no export/"),
        (["eval=jsonl"], "eval.path='???' has no value"),
        (["eval=jsonl", "eval.path=missing.jsonl"], "missing.jsonl' is not a file"),
        (["eval.prompt.template=chat"], "eval.prompt.template='chat' needs a tokenizer"),
        (["eval.max_new_tokens=100000"], "eval.max_new_tokens=100000 and a prompt"),
        (["eval.temperature=-1"], "is no sampling"),
        (["~eval.sets.arithmetic"], "holds no set"),
        (["eval.sets.arithmetic.part=all"], "has no end"),
        (["eval.sets.arithmetic.problems=0"], "problems=0 is below 1"),
        (["seed=-1"], "seed=-1 is not a seed"),
        (["checkpoint=best"], "checkpoint='best' is of no run"),
    ],
)
def test_bad_input_is_named_before_a_model_is_loaded(overrides, message):
    with pytest.raises(UserError) as caught:
        command.prepare(compose_or_explain("evaluate", overrides))
    assert message in str(caught.value)


def test_settings_of_training_are_refused():
    with pytest.raises(UserError, match=r"rollout.temperature='0.5' has no effect on an evaluation"):
        command.refuse_training_keys(["rollout.temperature=0.5"])
    command.refuse_training_keys(["rollout=vllm", "rollout.engine.max_num_seqs=8", "eval.temperature=0"])


def test_problems_that_the_verifier_cannot_score_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot score arithmetic:.* holds no entry of reasoning-gym"):
        nft_eval(tmp_path, "verifier=reasoning_gym")
    assert not list(tmp_path.iterdir())


def test_a_problem_twice_is_refused(tmp_path):
    line = json.dumps({"id": "a", "problem": "1+1", "answer": "2"}) + "\n"
    (tmp_path / "p.jsonl").write_text(line * 2)
    overrides = ["eval=jsonl", f"eval.path={tmp_path / 'p.jsonl'}", "eval.prompt.template=equals"]
    with pytest.raises(UserError, match="has the id 'a' at lines 1 and 2"):
        command.prepare(compose_or_explain("evaluate", overrides))


def test_the_mean_over_sets():
    import pyarrow as pa

    def made(name, verdicts, in_mean=True):
        rows = [
            {"problem_id": str(i), "verdict": v, "extracted": v, "length_tokens": 3, "truncated": False}
            for i, v in enumerate(verdicts)
        ]
        return evaluate_set(name, pa.Table.from_pylist(rows), in_mean)[0]

    one, two = made("a", ["correct"] * 3 + ["wrong"]), made("b", ["correct", "wrong"])
    found = mean_over_sets([one, two, made("c", ["wrong"] * 9, in_mean=False)])
    assert found.mean == pytest.approx((0.75 + 0.5) / 2)
    half = ((one.avg.mean - one.avg.low) ** 2 + (two.avg.mean - two.avg.low) ** 2) ** 0.5 / 2
    assert found.low == pytest.approx(found.mean - half)
    assert math.isnan(mean_over_sets([made("c", ["wrong"], in_mean=False)]).mean)


@pytest.mark.skipif(not DATA.exists(), reason="the benchmark files are not here")
@pytest.mark.parametrize(("suite", "temperature"), [("math_suite", 1.0), ("math_suite_t06", 0.6)])
def test_the_math_suite_is_the_papers(suite, temperature):
    from nft_lightning.app.build import part

    cfg = compose_or_explain("evaluate", [f"eval={suite}", f"eval.data_dir={DATA}"])
    plan = part(cfg, "eval")
    sizes = {name: (len(s.listed()), s.completions_per_problem) for name, s in plan.sets.items()}
    assert sizes == {
        "aime24": (30, 32),
        "aime25": (30, 32),
        "amc23": (40, 32),
        "math500": (500, 1),
        "olympiadbench": (674, 1),
        "minerva_math": (272, 1),
        "gsm8k_test": (1319, 1),
    }
    assert [n for n, s in plan.sets.items() if not s.in_mean] == ["gsm8k_test"]
    assert (plan.temperature, plan.top_p) == (temperature, 0.7)


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


COMMAND = "nft_lightning.cli.evaluate"


def run_command(*arguments):
    return cli(*arguments, module=COMMAND, timeout=300, COLUMNS="200")


@pytest.mark.slow
def test_a_run_is_evaluated_by_its_export_or_a_checkpoint(tmp_path):
    run = tmp_path / "run"
    assert cli(f"run_dir={run}", *BRIEF).returncode == 0
    found = {
        choice: nft_eval(tmp_path / choice, f"run={run}", *more)
        for choice, more in (
            ("export", []),
            ("last", ["checkpoint=last"]),
            ("first", ["checkpoint=epoch_00001"]),
        )
    }
    prints = {c: r["protocol"]["model_fingerprint"] for c, r in found.items()}
    # Two epochs were trained: the export is the last checkpoint, and the first is another model.
    assert prints["export"] == prints["last"] != prints["first"]
    assert found["export"]["sets"] == found["last"]["sets"]
    with pytest.raises(UserError, match=r"is no checkpoint of .* best, last, epoch"):
        nft_eval(tmp_path / "x", f"run={run}", "checkpoint=nope")
    damaged = run / "checkpoints" / "epoch_00001" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(UserError, match="checkpoint='epoch_00001' is damaged"):
        nft_eval(tmp_path / "x", f"run={run}", "checkpoint=epoch_00001")


@pytest.mark.slow
def test_the_command(tmp_path):
    out = tmp_path / "out"
    ended = run_command(f"out={out}", *SMALL)
    assert ended.returncode == 0, ended.stderr
    assert f"continues with out={out}" in ended.stdout
    assert "arithmetic" in ended.stdout
    assert "part 3 of 3" in ended.stderr
    refused = run_command(f"out={out}", *SMALL, "eval.temperatur=0.5")
    assert refused.returncode == 2
    assert "did you mean eval.temperature" in refused.stderr
    assert sorted(os.listdir(tmp_path)) == ["out"]


@pytest.mark.vllm
def test_both_engines_and_two_ranks_give_the_same_greedy_answers(tmp_path):
    pytest.importorskip("vllm")
    greedy = [*SMALL, "eval.temperature=0"]
    answers = []
    for engine, ranks in (("hf", 1), ("vllm", 1), ("vllm", 2)):
        out = tmp_path / f"{engine}_{ranks}"
        words = [f"out={out}", *greedy, f"rollout={engine}"]
        ended = run_command(*words) if ranks == 1 else run_ranks(ranks, COMMAND, *words)
        assert ended.returncode == 0, ended.stderr
        rows = [pq.read_table(out / "arithmetic" / p).to_pylist() for p in sorted(parts(out))]
        answers.append([r["completion"] for part in rows for r in part])
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.slow
def test_two_processes_share_the_parts_and_count_the_same(done, tmp_path):
    out, results = done
    shared = tmp_path / "out"
    command = [sys.executable, *TORCHRUN, "-m", COMMAND, f"out={shared}", *SMALL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("results.json") == 1
    assert json.loads((shared / "results.json").read_text())["sets"] == results["sets"]
    for name in parts(out):
        one, two = (pq.read_table(o / "arithmetic" / name).to_pylist() for o in (out, shared))
        texts = ("problem_id", "completion", "verdict")
        assert [[r[t] for t in texts] for r in one] == [[r[t] for t in texts] for r in two]


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"device='cuda:7' cannot be used .*: use cpu"):
        command.evaluate(compose_or_explain("evaluate", [*SMALL, "device=cuda:7"]))
