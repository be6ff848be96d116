"""nft-train starts the ranks it is asked for: one screen, one exit code, and nobody is left behind."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from omegaconf import OmegaConf

from nft_lightning.distributed.launch import Ranks, ranks_of
from tests.forked_ranks import ROOT
from tests.processes import Command, cli

SETTINGS = (
    "trainer=ddp",
    "trainer.devices=2",
    "trainer.accelerator=cpu",
    "rollout.problems_per_rollout=8",
    "rollout.completions_per_problem=4",
    "evaluation.problems=6",
    "evaluation.completions_per_problem=2",
    "batching.updates_per_rollout=2",
    "trainer.max_epochs=2",
    "callbacks.progress=null",
    "callbacks.export=null",
    "callbacks.curve=null",
)


def start(*words, **environment):
    """``nft-train`` with two ranks, begun."""
    return Command(*SETTINGS, *words, PYTHONPATH=str(ROOT), **environment)


def finish(process):
    """Exit code and what was written to stdout and stderr."""
    out, said = process.communicate(timeout=200)
    return process.returncode, out, said


def left_behind(run):
    """Processes that still name the run's folder."""
    return subprocess.run(["pgrep", "-f", f"run_dir=.*{run.name}"], capture_output=True).stdout.split()


def callback(name, **options):
    given = "".join(f", {key}: {value}" for key, value in options.items())
    return f"+callbacks.{name.lower()}={{_target_: tests.distributed.callbacks.{name}{given}}}"


@pytest.mark.slow
def test_two_hosts_of_one_rank_are_one_run(tmp_path):
    run = tmp_path / "hosts"
    words = ["trainer.devices=1", "trainer.num_nodes=2", f"run_dir={run}"]
    port = str(23_000 + os.getpid() % 10_000)
    hosts = [start(*words, MASTER_ADDR="127.0.0.1", MASTER_PORT=port) for _ in range(2)]
    ended = [finish(host) for host in hosts]
    assert [code for code, _, _ in ended] == [0, 0], ended
    # The first rank alone says what happens, on whichever host it is.
    assert sum(out.count("held-out problems") for _, out, _ in ended) == 2
    assert json.loads((run / "summary.json").read_text())["updates"] == 4
    assert left_behind(run) == []


@pytest.mark.slow
def test_sigterm_reaches_all_ranks_and_resume_continues(tmp_path):
    run = tmp_path / "terminated"
    code, _, said = finish(start(callback("End", signal_name="SIGTERM", rank=-1), f"run_dir={run}"))
    assert code == 75, said
    (written,) = [p for p in (run / "checkpoints").iterdir() if "update" in p.name]
    assert f"left on SIGTERM after writing {written}; nft-train resume={run} continues.\n" in said
    assert len(said.splitlines()) == 1
    assert left_behind(run) == []
    resumed = cli(f"resume={run}", "callbacks.end=null", timeout=200, PYTHONPATH=str(ROOT))
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((run / "summary.json").read_text())["updates"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (callback("End", signal_name="SIGKILL", rank=1), "stopped: rank 1 was ended by SIGKILL"),
        (callback("Fail", rank=1), "ValueError: the device fell off the bus"),
    ],
)
def test_a_rank_that_ends_ends_all(tmp_path, fault, sentence):
    run = tmp_path / f"ends_{len(sentence)}"
    # It ends long before the limit of ``finish``, where gloo alone would wait for half an hour.
    code, _, said = finish(start(fault, f"run_dir={run}"))
    assert code == 1
    assert sentence in said
    assert said.count("Traceback") <= 1
    assert left_behind(run) == []


@pytest.mark.slow
def test_ctrl_c_reaches_all_ranks(tmp_path):
    run = tmp_path / "interrupted"
    code, _, said = finish(start(callback("End", signal_name="SIGINT", rank=-1), f"run_dir={run}"))
    assert code == 130, said
    assert "left on SIGINT after writing" in said
    assert left_behind(run) == []


@pytest.mark.slow
def test_each_run_of_a_multirun_starts_its_own_ranks(tmp_path):
    code, _, said = finish(
        start("-m", "seed=0,1", "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path}")
    )
    assert code == 0, said
    summaries = sorted(tmp_path.glob("*/summary.json"))
    assert [json.loads(path.read_text())["seed"] for path in summaries] == [0, 1]


@pytest.mark.parametrize(
    ("words", "environment", "sentence"),
    [
        (["trainer.num_nodes=2"], {}, "set MASTER_ADDR to the first host's name"),
        ([], {"WORLD_SIZE": "2", "RANK": "0"}, "run_dir=None is made from the time"),
        (["run_dir=x"], {"WORLD_SIZE": "3", "RANK": "0"}, "where the launcher started 3"),
        (["evaluation.problems=1"], {}, "is too few for 2 ranks"),
    ],
)
def test_what_cannot_start_is_one_sentence(tmp_path, words, environment, sentence):
    folder = [] if words == [] or "run_dir=x" in words else [f"run_dir={tmp_path / 'run'}"]
    code, _, said = finish(start(*words, *folder, **environment))
    assert code == 2
    assert sentence in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("devices", "ranks"), [(3, 3), ("2", 2), ([0, 1, 2], 3), ("0,1", 2), ("auto", 1), (-1, 1)]
)
def test_devices_are_counted_as_lightning_counts_them(devices, ranks):
    trainer = OmegaConf.create({"accelerator": "cpu", "devices": devices, "num_nodes": 2})
    assert ranks_of(trainer) == Ranks(ranks, 2, 0)
