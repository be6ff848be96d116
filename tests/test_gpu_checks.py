"""The checks that wait for a GPU: whole on the CPU with a tiny model, and refused in one sentence."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu"
SCRIPTS = sorted(p.name for p in FOLDER.glob("*.py") if "__main__" in p.read_text())


@pytest.fixture
def start(monkeypatch):
    """Run a script of the folder as the command line does."""

    def run(script, *words):
        monkeypatch.syspath_prepend(str(FOLDER))
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        runpy.run_path(str(FOLDER / script), run_name="__main__")

    return run


@pytest.fixture
def rehearsed(start, tmp_path):
    """The rows of a rehearsal by their names, and what it wrote for people."""

    def run(script, name, *words):
        start(script, "--rehearse", "--out", tmp_path, *words)
        found = json.loads((tmp_path / "results.json").read_text())
        text = (tmp_path / "results.md").read_text()
        assert text.startswith("A rehearsal on the CPU")
        assert found["facts"]["torch"] == torch.__version__
        return {row[name]: row for row in found["rows"]}, text

    return run


def test_the_checks_are_known():
    names = ["adapters.py", "attention.py", "memory.py", "rollouts.py", "step.py", "strategies.py"]
    assert [*names, "vllm_ranks.py"] == SCRIPTS


def test_one_command_runs_all_and_keeps_to_its_time(tmp_path):
    """Each check that a machine without a GPU is asked for; with no time left none begins."""
    command = ["bash", str(FOLDER / "run_all.sh"), str(tmp_path / "out")]
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "SECONDS_LIMIT": "9",
        "CUDA_VISIBLE_DEVICES": "",
    }
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    names = ["rollouts", "step", "attention", "memory", "adapters"]
    assert ended.stdout.splitlines() == [f"{name}: not run, the time is over" for name in names]
    assert not (tmp_path / "out").exists()
    environment["SECONDS_LIMIT"] = "600"
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = ended.stdout.splitlines()
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"{name}: exit code 1 after")
        assert line.endswith(
            f"error: benchmarks/gpu/{name}.py needs an NVIDIA GPU, and torch sees none here."
        )
        assert os.listdir(tmp_path / "out" / name) == ["log.txt"]


@pytest.mark.slow
def test_step_rehearsed(rehearsed):
    words = ["--rows", 2, "--prompt", 32, "--answer", 96, "--precisions", "32-true", "bf16-mixed"]
    rows, text = rehearsed("step.py", "precision", *words)
    assert list(rows) == ["32-true", "bf16-mixed"]
    for row in rows.values():
        ratio = row["bare_tokens_per_second"] / row["tokens_per_second"]
        assert row["time_to_bare"] == pytest.approx(ratio)
        assert row["bare_mfu"] == pytest.approx(row["mfu"] * ratio)
        assert 0 < row["mfu"] < 1
    assert f"| 32-true | {rows['32-true']['tokens_per_second']:,.0f} | " in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_a_gpu_it_says_so_and_writes_nothing(start, monkeypatch, tmp_path, script):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        start(script, "--out", tmp_path / "results")
    expected = f"error: benchmarks/gpu/{script} needs an NVIDIA GPU, and torch sees none here."
    assert ended.value.code == expected
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("gpus", "free_gib", "words", "expected"),
    [
        (1, 80, ["--devices", "2"], "needs 2 GPUs, and torch sees 1: see --devices"),
        (2, 20, [], "30 GiB of memory must be free on GPU 0, and 20.0 are"),
    ],
)
def test_too_few_gpus_or_too_small_ones(start, monkeypatch, gpus, free_gib, words, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_gib * 2**30, 80 * 2**30))
    with pytest.raises(SystemExit, match=expected):
        start("strategies.py", *words)


def test_every_strategy_of_the_trainer_group_is_in_the_table(start):
    """A new file in conf/trainer is a strategy that a GPU has to be shown."""
    names = {p.stem for p in (FOLDER.parents[1] / "conf" / "trainer").glob("*.yaml")}
    text = (FOLDER / "strategies.py").read_text()
    assert all(f'"trainer={name}"' in text for name in names - {"cpu"})


def test_parameters_too_far_apart_end_it_with_an_error(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    script = runpy.run_path(str(FOLDER / "strategies.py"))
    one, other = {"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.tensor([3.0, -4.0])}
    assert script["apart"](one, other) == (math.inf, math.inf)
    assert script["apart"](one, {**other, "b": torch.zeros(1)}) == (4.0, 5.0)
    about = {"model": "tiny", "precision": "32-true", "peak_gib_by_rank": [1.0]}
    rows = [
        {**about, "trainer": "one process", "moved": 1e-3},
        {**about, "trainer": "ddp", "difference": 1e-4, "within_bound": False},
    ]
    monkeypatch.setitem(script["main"].__globals__, "measure", lambda given: rows)
    monkeypatch.setattr(sys, "argv", ["strategies.py", "--rehearse", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="further apart than 1e-05 with ddp"):
        script["main"]()
    assert "| ddp | 1.0e-04 | - | - | **no** |" in (tmp_path / "results.md").read_text()


@pytest.mark.slow
def test_strategies_rehearsed(rehearsed, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *given: None if name == "deepspeed" else find(name, *given),
    )
    words = ["--models", "qwen3_0.6b", "--precisions", "32-true", "--problems", 6, "--completions", 4]
    rows, text = rehearsed("strategies.py", "trainer", *words, "--trainers", "fsdp2", "zero3")
    assert rows["one process"]["moved"] > 2e-4
    shards = rows["fsdp2"]
    assert shards["within_bound"] is True
    for resumed in ("", "_resumed"):
        assert 0 <= shards[f"difference{resumed}"] < 1e-5
        assert 0 <= shards[f"relative{resumed}"] < 1e-2
        assert shards[f"seconds_per_update{resumed}"] > 0
        assert len(shards[f"peak_gib_by_rank{resumed}"]) == 2
        assert shards[f"equal_completions_fraction{resumed}"] == 1
    assert "needs deepspeed" in rows["zero3"]["not_run"]
    assert f"| zero3 | not run: {rows['zero3']['not_run']} |" in text


@pytest.mark.slow
def test_memory_rehearsed(rehearsed):
    options = ["lora_rank=16", "adamw_cpu_offload"]
    words = ["--rows", 2, "--prompt", 32, "--answer", 96, "--options", *options]
    rows, text = rehearsed("memory.py", "option", *words)
    assert list(rows) == options
    ran = rows["lora_rank=16"]
    assert ran["tokens_per_second"] == pytest.approx(2 * 128 / ran["seconds"])
    assert 0.1 < ran["allocated_gib"] == ran["reserved_gib"] < 4
    # The whole process's memory is measured here, and the plan knows tensors alone.
    assert 0 < ran["planned_gib"] < ran["allocated_gib"]
    assert rows["adamw_cpu_offload"]["not_run"].endswith("needs CUDA: use adamw.")
    assert f"| adamw_cpu_offload | not run: {rows['adamw_cpu_offload']['not_run']} |" in text


@pytest.mark.vllm
@pytest.mark.slow
def test_adapters_rehearsed(rehearsed):
    for package in ("vllm", "peft", "bitsandbytes"):
        pytest.importorskip(package)
    name = "QLoRA, alone"
    words = ["--problems", 4, "--completions", 2, "--only", name]
    rows, text = rehearsed("adapters.py", "policy", *words)
    assert list(rows) == [name]
    alone = rows[name]
    assert 0 < alone["sync_mib"] < 1  # the adapters of 0.9 M parameters in 4 bits
    assert alone["probe_gap"] < 0.5
    assert f"| QLoRA, alone | {alone['sync_mib']:.1f} | " in text


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_ranks_rehearsed(rehearsed):
    pytest.importorskip("vllm")
    name = "ddp, one copy"
    words = ["--problems", 4, "--completions", 2, "--only", name]
    rows, text = rehearsed("vllm_ranks.py", "ranks", *words)
    assert list(rows) == [name]
    assert rows[name]["probe_gap"] < 1e-3
    assert rows[name]["tokens_per_second"] > 0
    assert "not run" not in text


@pytest.mark.slow
def test_attention_rehearsed(rehearsed):
    rows, text = rehearsed("attention.py", "way", "--repeats", 1)
    flash = rows.pop("end to end, flash_attention_2, fused")
    assert "flash" in flash["not_run"]
    assert f"not run: {flash['not_run']}" in text
    assert len(rows) == 3
    for row in rows.values():
        for side in ("from_fp32", "from_base"):
            assert max(row[side].values()) < 1e-5
        assert row["tokens_per_second"] > 0
    # The base is compared with itself; two ways may agree to the last bit, too, on some processors.
    apart = [row["from_base"]["logprob_max"] for row in rows.values()]
    assert apart[0] == 0
