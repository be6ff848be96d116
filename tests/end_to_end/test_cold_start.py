"""Runs that begin from supervised fine-tuning, made once and found by what it is made of."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nft_lightning.app.cold_start import FIRST_SEED, begun_from, name_of, training
from nft_lightning.problems.arithmetic import ArithmeticProblems
from tests.commands import command as checked
from tests.processes import Command, cli

START = ("cold_start=worked_answers", "cold_start.examples=24", "cold_start.learning_rate=1e-3")
QUICK = (
    *START,
    "rollout.problems_per_rollout=8",
    "rollout.completions_per_problem=4",
    "evaluation.problems=4",
    "evaluation.completions_per_problem=2",
    "evaluation.every_epochs=9",
    "batching.updates_per_rollout=2",
    "trainer.max_epochs=1",
)


def train(folder, *words):
    return cli(*QUICK, *words, cwd=folder, timeout=500)


def made(folder):
    """The cold starts below a folder, by name."""
    return sorted(path.name for path in (folder / "runs" / "cold_starts").iterdir() if path.is_dir())


def weights(export):
    return hashlib.sha256((export / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run and the cold start that it made."""
    folder = tmp_path_factory.mktemp("cold start")
    # The cold start's own seed, so that both evaluations draw the same answers.
    ended = train(folder, "run_dir=nft", f"seed={FIRST_SEED}")
    assert ended.returncode == 0, ended.stderr
    (name,) = made(folder)
    assert f"Cold start: 24 worked answers, into runs/cold_starts/{name}" in ended.stdout
    return folder, folder / "runs" / "cold_starts" / name


def test_the_run_begins_from_its_weights(first):
    folder, start = first
    config = OmegaConf.load(folder / "nft" / "config.yaml")
    assert config.model.path == f"runs/cold_starts/{start.name}/export"
    assert config.cold_start.examples == 24
    record = json.loads((folder / "nft" / "cold_start.json").read_text())
    made_by = json.loads((start / "summary.json").read_text())
    assert record["after"] == made_by["after"]["eval/avg_at_2"]
    assert record["updates"] == 8
    # The same held-out problems, weights and seed: the run's first evaluation is the cold start's last.
    begun = json.loads((folder / "nft" / "summary.json").read_text())
    assert begun["before"]["eval/avg_at_2"] == made_by["after"]["eval/avg_at_2"]
    assert begun["updates"] == 2


def test_other_algorithms_and_seeds_share_it(first):
    folder, start = first
    before = weights(start / "export"), os.stat(start / "summary.json").st_mtime_ns
    ended = train(folder, "algorithm=grpo", "seed=5", "policy.lora_rank=4", "run_dir=grpo")
    assert ended.returncode == 0, ended.stderr
    assert "Cold start: " not in ended.stdout
    assert made(folder) == [start.name]
    assert (weights(start / "export"), os.stat(start / "summary.json").st_mtime_ns) == before
    # A resume finds it again, also under the name that it was begun with.
    more = cli("resume=grpo", "trainer.max_epochs=2", cwd=folder)
    assert more.returncode == 0, more.stderr
    assert json.loads((folder / "grpo" / "summary.json").read_text())["epochs"] == 2


def test_one_that_was_killed_continues_to_the_same_weights(first, tmp_path):
    _, start = first
    process = Command(*QUICK, "run_dir=nft", cwd=tmp_path)
    folder = tmp_path / "runs" / "cold_starts" / start.name
    until = time.monotonic() + 300
    while not list(folder.glob("checkpoints/epoch_*")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    if not (folder / "summary.json").exists():
        assert process.returncode == 75, errors
        assert "the same command continues it" in errors
    ended = train(tmp_path, "run_dir=nft")
    assert ended.returncode == 0, ended.stderr
    assert weights(folder / "export") == weights(start / "export")


def test_two_runs_at_once_make_it_once(first, tmp_path):
    _, start = first
    both = [
        Command(*QUICK, "algorithm=rft", f"seed={seed}", f"run_dir=run{seed}", cwd=tmp_path)
        for seed in (1, 2)
    ]
    outputs = ["".join(process.communicate(timeout=500)) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("Cold start: " in output for output in outputs) == 1
    assert weights(tmp_path / "runs" / "cold_starts" / start.name / "export") == weights(
        start / "export"
    )


def test_several_ranks_begin_from_the_same(first, tmp_path):
    ended = train(tmp_path, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "run_dir=ddp")
    assert ended.returncode == 0, ended.stderr
    assert made(tmp_path) == made(first[0])
    assert json.loads((tmp_path / "ddp" / "cold_start.json").read_text())["updates"] == 8


def test_its_name_depends_on_what_is_learned_alone(compose_config):
    def name(*words):
        return name_of(training(compose_config(*QUICK, "run_dir=x", *words)))

    same = (
        ("algorithm=dapo", "seed=9"),
        ("run_dir=elsewhere",),
        ("optimizer.learning_rate=1e-5", "optimizer.schedule=cosine", "optimizer.warmup_updates=3"),
        ("rollout.problems_per_rollout=3", "rollout.temperature=0.7", "verifier=exact"),
        ("evaluation.problems=9", "batching.max_tokens_per_micro_batch=999", "trainer.max_epochs=7"),
        ("policy.lora_rank=8", "logger=csv", "callbacks=none", "cold_start.folder=elsewhere"),
    )
    other = (
        ("cold_start.seed=1",),
        ("cold_start.passes=3",),
        ("cold_start.learning_rate=1e-5",),
        ("problems.source.max_terms=4",),
        ("problems.prompt.template=question_answer",),
        ("model.name=tiny_unsure",),
        ("trainer.precision=bf16-mixed",),
    )
    assert {name(*words) for words in same} == {name()}
    assert len({name(*words) for words in other} | {name()}) == len(other) + 1


@pytest.mark.parametrize("seed", [0, 3])
def test_a_run_does_not_begin_with_the_problems_that_are_learned_already(compose_config, seed):
    cfg = compose_config(*QUICK, f"seed={seed}", f"cold_start.seed={seed}", "run_dir=x")
    source = ArithmeticProblems()
    learned = {source.problem(i, training(cfg).seed).id for i in range(64)}
    asked = {source.problem(i, cfg.seed).id for i in range(64)}
    assert len(learned & asked) < 3


def test_what_the_model_was_loaded_with_is_kept(compose_config):
    words = ("model=hf", "model.path=M", "model.dtype=bfloat16", "model.attention=eager")
    found = begun_from(compose_config(*START, *words, "run_dir=x"), Path("F")).model
    assert (found.path, found.dtype, found.attention) == ("F/export", "bfloat16", "eager")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("cold_start.examples=0",), "cold_start.examples=0 is below 1: use 1 or more."),
        (("cold_start.learning_rate=0",), "cold_start.learning_rate=0.0 is not above 0: use 2.0e-5."),
        (("problems=reasoning_gym",), "has no worked solution, from which SFT learns"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence):
    assert sentence in checked("nft-train", *START, *words).sentence
