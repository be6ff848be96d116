"""Composition, fairness, and every kind of bad input."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf

from nft_lightning.app.build import CONF_DIR, build, options_of, part
from nft_lightning.app.conditions import NOT_CONDITIONS, conditions_hash, same_run
from nft_lightning.app.parts import build_parts
from nft_lightning.assets import tiny_policy_path
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.errors import UserError
from nft_lightning.policy.loading import HFModel
from nft_lightning.search.sweeper import register
from tests.commands import command
from tests.processes import cli

ALGORITHMS = options_of("algorithm")
NEEDS = {
    "jsonl": ["problems.path=PATH"],
    "hf_dataset": ["problems.path=org/set"],
    "hf": ["model.path=org/model"],
    "small_model": ["model.path=org/model", "problems.path=PATH"],
    "cpu_model": ["model.path=org/model", "problems.path=PATH"],
    "callable": ["verifier.function=operator.eq"],
}


@pytest.fixture
def problem_file(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text(
        "".join(json.dumps({"problem": f"{i}+1", "answer": str(i + 1)}) + "\n" for i in range(60))
    )
    return path


def options(group: str) -> list[str]:
    return options_of(group)


GROUP_OPTIONS = [
    (p.name, o)
    for p in sorted(CONF_DIR.iterdir())
    if p.is_dir() and p.name != "eval"
    for o in options(p.name)
]


@pytest.mark.parametrize(("group", "option"), GROUP_OPTIONS)
def test_every_option_composes_and_builds(compose_config, problem_file, group, option, tmp_path):
    if group == "logger" and option in ("wandb", "mlflow", "trackio"):
        pytest.importorskip(option)
    if group == "rollout" and option.startswith("vllm") and option != "vllm_server":
        pytest.importorskip("vllm")
    if group in ("sweep", "pruner"):
        register()
    chosen = [f"{group}={option}"] if group != "pruner" else ["sweep=learning_rate", f"pruner={option}"]
    extra = NEEDS.get(option, []) if (group, option) != ("rollout", "hf") else []
    extra = [e.replace("PATH", str(problem_file)) for e in extra]
    cfg = compose_config(*chosen, f"run_dir={tmp_path}", *extra)
    if group in ("logger", "callbacks"):
        for name, node in cfg[group].items():
            assert build(node, f"{group}.{name}") is not None
    elif group == "problems":
        source = build(cfg.problems.source, "problems.source")
        assert source.held_out_fraction == 0.1
    elif group not in ("trainer", "experiment", "sweep", "pruner", "debug"):
        node = cfg[group].engine if group == "rollout" else cfg[group]
        assert build(node, group) is not None
    else:
        assert cfg.trainer.max_epochs > 0


def test_every_pair_of_algorithms_differs_only_there(compose_config):
    composed = {}
    for name in ALGORITHMS:
        cfg = compose_config(f"algorithm={name}", "run_dir=x")
        hashed = conditions_hash(cfg)
        data = OmegaConf.to_container(cfg, resolve=False)
        composed[name] = (data, hashed)
    for a, b in itertools.combinations(ALGORITHMS, 2):
        differing = {k for k in composed[a][0] if composed[a][0][k] != composed[b][0][k]}
        assert differing == {"algorithm"}
        assert composed[a][1] == composed[b][1]


def test_the_conditions_see_everything_else(compose_config):
    base = conditions_hash(compose_config("run_dir=x"))
    assert base == conditions_hash(compose_config("run_dir=y", "seed=5", "algorithm=grpo"))
    for change in (
        "optimizer.learning_rate=1e-3",
        "rollout.temperature=0.9",
        "problems.source.max_terms=6",
    ):
        assert conditions_hash(compose_config(change)) != base
    assert "optimizer" not in NOT_CONDITIONS


BAD = [
    (["algorithm=nfft"], ["algorithm", "nfft", "nft"]),
    (["algorithmm=nft"], ["algorithmm", "algorithm"]),
    (["optimizer.learning_rat=1"], ["optimizer.learning_rat", "optimizer.learning_rate"]),
    (["rollout.completions_per_problem=1"], ["completions_per_problem", "1", "2 or more"]),
    (["rollout.top_p=0.9"], ["rollout.top_p", "0.9", "top_p=1"]),
    (["rollout.problems_per_rollout=0"], ["problems_per_rollout", "0", "1 or more"]),
    (["rollout.max_new_tokens=-3"], ["max_new_tokens", "-3"]),
    (["batching.updates_per_rollout=0"], ["updates_per_rollout", "0"]),
    (["batching.minibatch_unit=rows"], ["batching.minibatch_unit", "rows", "auto, completion, group"]),
    (
        ["batching.minibatch_unit=completion", "algorithm=dpo"],
        ["batching.minibatch_unit", "algorithm (DPO)", "groups"],
    ),
    (["evaluation.problems=0"], ["evaluation.problems", "0"]),
    (["optimizer.learning_rate=0"], ["learning_rate", "0"]),
    (["trainer.max_epochs=0"], ["max_epochs", "0"]),
    (["seed=-1"], ["seed", "-1"]),
    (["problems=jsonl"], ["problems.path", "no value"]),
    (
        ["problems=jsonl", "problems.path=missing.jsonl"],
        ["problems.path", "missing.jsonl", "not a file"],
    ),
    (["model=hf", "model.path=/nonexistent/model"], ["model.path", "/nonexistent/model", "config.json"]),
    (["model.name=huge"], ["model.name", "huge", "tiny"]),
    (["problems.prompt.template=odd"], ["problems.prompt.template", "odd", "equals"]),
    (["problems.prompt_template=chat"], ["another name now", "use problems.prompt.template"]),
    (["run_dir=/proc/nothing/here"], ["run_dir", "/proc/nothing/here", "another folder"]),
    (["optimizer.learning_rate=fast"], ["optimizer.learning_rate", "fast"]),
    (["algorithm.negative_floor=0"], ["algorithm.negative_floor", "0"]),
    (["rollout.max_new_tokens=300"], ["max_new_tokens", "300", "context"]),
    (["+trainer.accumulate_grad_batches=2"], ["trainer.accumulate_grad_batches", "no effect"]),
    (["+trainer.max_epochss=2"], ["max_epochss"]),
    (["algorithm=ppo", "algorithm.value_clp=1"], ["algorithm.value_clp", "algorithm.value_clip"]),
    (
        ["algorithm.beta=3"],
        ["algorithm.beta", "it belongs to algorithm=dpo, algorithm=dro, algorithm=infonca"],
    ),
    (["cold_start.examples=3"], ["belongs to cold_start=worked_answers, so give that too."]),
    (["+cold_start.examples=3"], ["nobody reads", "cold_start=worked_answers, so give that too."]),
    (["cold_start.exampels=3"], ["cold_start.examples, with cold_start=worked_answers."]),
    (["cold_start.other=3"], ["choose cold_start=worked_answers first, or leave it out."]),
    (["debug.updates=3"], ["choose debug=default or limit or overfit or profiler first"]),
    (["debug.trainer.max_epochs=1"], ["write trainer.max_epochs, which debug=limit sets."]),
    (["pruner.n_startup_trials=2"], ["write hydra.sweeper.pruner.n_startup_trials"]),
    (["just_a_word"], ["just_a_word", "key=value"]),
]


@pytest.mark.parametrize(
    ("arguments", "words"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_input_ends_in_one_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentence = command("nft-train", *arguments).sentence
    for word in words:
        assert word in sentence
    assert list(tmp_path.iterdir()) == []


def test_bad_input_ends_in_one_sentence_of_the_command(tmp_path):
    started = time.perf_counter()
    result = cli("optimizer.learning_rate=0", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "optimizer.learning_rate=0.0 is not above 0" in sentence
    assert time.perf_counter() - started < 30
    assert list(tmp_path.iterdir()) == []


def test_without_vllm_the_way_to_get_it_is_named(compose_config, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs vLLM, which is not installed: run in the clone: pip"):
        build_parts(compose_config("rollout=vllm", "run_dir=x"))


def test_a_used_run_folder_is_left_alone(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert "holds a run already" in command("nft-train", f"run_dir={tmp_path}").sentence
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_damaged_weights_are_named(tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(tiny_policy_path("tiny"), folder)
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"x" * 1000)
    with pytest.raises(UserError, match=r"model\.path"):
        HFModel(str(folder)).load(1.0)


def test_shell_completion_offers_the_options():
    environment = {**os.environ, "COMP_LINE": "nft-train algorithm=", "COMP_POINT": "20"}
    command = [sys.executable, "-m", "nft_lightning.cli.train", "-sc", "query=bash"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert {"algorithm=nft", "algorithm=dr_grpo"} <= set(result.stdout.split())


FILES = {
    "empty": ("", ["holds no problem"]),
    "not_json": ('{"problem": "1", "answer": "1"}\n{oops\n', ["not JSON at line 2"]),
    "no_answer": ('{"problem": "1", "answer": "1"}\n\n{"problem": "2"}\n', ["lacks answer at line 3"]),
    "a_list": ("[1, 2]\n", ["holds no object at line 1"]),
    "null": ('{"problem": "1", "answer": null}\n', ["answer that is null at line 1"]),
    "latin_1": (b'{"problem": "caf\xe9", "answer": "1"}\n', ["cannot be read"]),
}


@pytest.mark.parametrize("kind", FILES)
def test_bad_problem_files(compose_config, tmp_path, kind):
    content, words = FILES[kind]
    path = tmp_path / "problems.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=words[0]) as caught:
        build_parts(compose_config("problems=jsonl", f"problems.path={path}", "run_dir=x"))
    assert "problems.path" in str(caught.value)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(UserError, match="is not above 0"):
        command("nft-train", "--debug", "optimizer.learning_rate=0", f"run_dir={tmp_path}")


def test_a_model_without_eos_is_refused(tmp_path):
    for file in tiny_policy_path("tiny").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config.pop("eos_token")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="end-of-sequence"):
        HFModel(str(tmp_path)).inspect()


def test_help_is_worth_reading():
    result = cli("--help")
    assert result.returncode == 0
    for word in ("cispo, dapo, distillation, dpo, dppo", "nft-train -m", "learning_rate"):
        assert word in result.stdout


@pytest.mark.parametrize("option", [o for o in options("eval") if o != "run"])
def test_every_evaluation_composes_and_builds(problem_file, option):
    extra = {"jsonl": ["eval.path=FILE"], "hf_dataset": ["eval.path=some/name"]}.get(option, [])
    if option in ("math_suite", "math_suite_t06"):
        for name in compose_or_explain("evaluate", ["eval=math_suite"]).eval.sets:
            shutil.copy(problem_file, problem_file.parent / f"{name}.jsonl")
        extra = [f"eval.data_dir={problem_file.parent}"]
    extra = [e.replace("FILE", str(problem_file)) for e in extra]
    cfg = compose_or_explain("evaluate", [f"eval={option}", *extra])
    assert part(cfg, "eval").sets


def test_a_search_without_many_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = command("nft-train", "sweep=learning_rate").sentence
    assert "sweep='learning_rate' is many runs: add -m" in said
    said = command("nft-train", "-m", "sweep=learning_rate", "--cfg", "job").sentence
    assert "--cfg='with -m' shows one run: leave out -m" in said
    for words in (["pruner=halving"], ["-m", "pruner=halving"]):
        said = command("nft-train", *words).sentence
        assert "pruner='halving' ends runs of a search: add -m sweep=" in said
    result = cli("sweep=learning_rate", "--cfg", "hydra", "-p", "hydra.sweeper.pruner", cwd=tmp_path)
    assert "SuccessiveHalvingPruner" in result.stdout
    assert os.listdir(tmp_path) == []


def test_what_was_checked_is_what_runs(compose_config):
    """The parts of a config are built once, although Hydra composes it again."""
    first = compose_config("run_dir=a", "problems.source.max_terms=4")
    assert same_run(first, compose_config("run_dir=b", "problems.source.max_terms=4"))
    assert not same_run(first, compose_config("run_dir=a", "problems.source.max_terms=5"))
