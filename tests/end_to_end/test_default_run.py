"""The embedded default through the command line, briefly."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.policy.loading import TinyModel
from tests.processes import cli
from tests.test_house import documented_metrics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    arguments = (
        "trainer.max_epochs=4",
        "rollout.problems_per_rollout=32",
        "evaluation.problems=40",
        "evaluation.completions_per_problem=4",
        "evaluation.every_epochs=2",
        "seed=1",
    )
    result = cli(*arguments, f"run_dir={folder / 'a'}")
    assert result.returncode == 0, result.stderr
    again = cli(*arguments, f"run_dir={folder / 'b'}")
    assert again.returncode == 0, again.stderr
    return folder, result


def rows(folder, name="metrics.csv"):
    with open(folder / name) as file:
        return list(csv.DictReader(file))


def test_it_learns(finished):
    summary = json.loads((finished[0] / "a" / "summary.json").read_text())
    before, after = summary["before"], summary["after"]
    assert after["eval/avg_at_4_low"] > before["eval/avg_at_4_high"]
    assert after["eval/response_length_mean_tokens"] > before["eval/response_length_mean_tokens"]
    assert summary["updates"] == 16


def test_the_folder_explains_itself(finished):
    folder, result = finished
    run = folder / "a"
    for name in (
        "config.yaml",
        "versions.json",
        "metrics.csv",
        "updates.csv",
        "curve.png",
        "samples.md",
        "summary.json",
    ):
        assert (run / name).stat().st_size > 0, name
    kept = {p.name for p in (run / "checkpoints").iterdir()}
    assert {"best", "last", "epoch_00003", "epoch_00004"} <= kept
    assert len(kept) <= 5
    assert list((run / "tensorboard").iterdir())
    assert "gold" in (run / "samples.md").read_text()
    for words in (
        "conditions",
        "4 optimizer steps per rollout; the first is on-policy",
        "before",
        "after",
        "Try next",
    ):
        assert words in result.stdout


def test_rollouts_are_recorded(finished):
    tables = [pq.read_table(p) for p in sorted((finished[0] / "a" / "rollouts").iterdir())]
    assert len(tables) == 4
    for epoch, table in enumerate(tables):
        data = table.to_pydict()
        assert set(data["policy_version"]) == {epoch * 4}
        assert all(0 < r < 1 for r in data["prompt_accuracy"])
        assert all(
            n == len(i) == len(p)
            for n, i, p in zip(
                data["length_tokens"], data["token_ids"], data["engine_logprobs"], strict=True
            )
        )
        assert {
            (r == 1.0, v == "correct") for r, v in zip(data["reward"], data["verdict"], strict=True)
        } == {(True, True), (False, False)}


def test_two_runs_are_identical(finished):
    folder, _ = finished
    a, b = rows(folder / "a"), rows(folder / "b")
    assert len(a) == len(b) > 4
    for x, y in zip(a, b, strict=True):
        for key in x:
            if not key.startswith("time/"):
                assert x[key] == y[key], key


def test_every_update_has_a_row(finished):
    run = finished[0] / "a"
    updates = rows(run, "updates.csv")
    assert [int(row["step"]) for row in updates] == list(range(16))
    assert [int(float(row["epoch"])) for row in updates] == [n // 4 for n in range(16)]
    assert {float(row["update/learning_rate"]) for row in updates} == {2e-4}
    # A row of metrics.csv holds the mean of its rollout's updates.
    epochs = [row for row in rows(run) if row["objective/loss"]]
    for i, row in enumerate(epochs):
        own = updates[4 * i : 4 * i + 4]
        for here, there in (
            ("update/loss", "objective/loss"),
            ("update/gradient_norm", "optimizer/gradient_norm"),
        ):
            mean = sum(float(update[here]) for update in own) / 4
            assert mean == pytest.approx(float(row[there]), rel=1e-4, abs=1e-6)
        entropies = [float(update["update/entropy_nats"]) for update in own]
        assert min(entropies) <= float(row["policy/entropy_nats"]) <= max(entropies)


def test_every_logged_metric_is_documented(finished):
    every = (rows(finished[0] / "a", name)[0] for name in ("metrics.csv", "updates.csv"))
    logged = {k for row in every for k in row if "/" in k}
    logged = {k.replace("_at_4", "_at_{k}") for k in logged}
    documented = documented_metrics()
    assert logged <= documented
    # These belong to one algorithm, option or callback; test_algorithms runs them.
    elsewhere = {n for n in documented - logged if not n.startswith("verdict/part_")}
    assert elsewhere == {
        "objective/value_loss",
        "objective/explained_variance",
        "objective/kl_reference",
        "objective/teacher_gap",
        "sync/merge_rounding",
        "time/gather_seconds",
        "time/wait_seconds",
        "objective/importance_weight_mean",
        "objective/off_policy_masked_fraction",
        "gradient/cosine_first_update",
        "gradient/cosine_last_update",
        "optimizer/memory_splits",
    }


def test_the_export_gives_the_same_logprobs(finished):
    run = finished[0] / "a"
    exported = AutoModelForCausalLM.from_pretrained(run / "export")
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    state = read_checkpoint(run / "checkpoints" / "last")["state_dict"]
    trained = TinyModel().load(1.0)
    trained.load_state_dict(
        {k.removeprefix("policy."): v for k, v in state.items() if k.startswith("policy.")}
    )
    ids = torch.tensor([tokenizer.encode("7+12-5=7+12=19\n19-5=14\n\\boxed{14}")])
    with torch.no_grad():
        ours = trained.model(ids).logits.log_softmax(-1)
        theirs = exported(ids).logits.log_softmax(-1)
    assert torch.equal(ours, theirs)


def test_the_tokenizer_round_trips_every_character():
    tokenizer = TinyModel().load(1.0).tokenizer
    text = "".join(map(chr, range(32, 127))) + "\n7+12=19\n\\boxed{-3}"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
