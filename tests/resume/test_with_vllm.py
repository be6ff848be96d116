"""A run with a real vLLM engine is ended by a signal and resumed."""

from __future__ import annotations

import csv
import signal
import time

import pytest

from tests.processes import Command

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
MEASURES_THE_MACHINE = ("time/", "checkpoint/", "sync/seconds")
SMALL = (
    "rollout=vllm",
    "trainer.max_epochs=3",
    "rollout.problems_per_rollout=8",
    "evaluation.problems=8",
    "evaluation.every_epochs=3",
)


def finish(process):
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors[-500:]


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if v and not k.startswith(MEASURES_THE_MACHINE)}
            for row in csv.DictReader(file)
        ]


def test_a_run_with_vllm_goes_on(tmp_path):
    pytest.importorskip("vllm")
    whole = Command(*SMALL, f"run_dir={tmp_path / 'whole'}")
    assert finish(whole)[0] == 0
    cut = Command(*SMALL, f"run_dir={tmp_path / 'cut'}")
    while cut.poll() is None and not (tmp_path / "cut/checkpoints/epoch_00001").exists():
        time.sleep(0.05)
    cut.send_signal(signal.SIGTERM)
    code, errors = finish(cut)
    assert code == 75, errors
    code, errors = finish(Command(f"resume={tmp_path / 'cut'}"))
    assert code == 0, errors
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
