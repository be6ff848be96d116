"""The small search that gives each algorithm of a comparison its learning rate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked_ranks import ROOT

TINY = (
    "trainer.max_epochs=1",
    "callbacks=none",
    "logger=csv",
    "rollout.problems_per_rollout=2",
    "rollout.completions_per_problem=2",
    "batching.updates_per_rollout=1",
    "evaluation.problems=2",
    "evaluation.completions_per_problem=2",
)


def finished(runs: Path, rate: str, algorithm: str, seed: int, accuracy: float) -> None:
    folder = runs / rate / f"{algorithm}_seed{seed}"
    folder.mkdir(parents=True)
    after = {"eval/avg_at_8_low": 0.0, "eval/avg_at_8": accuracy, "eval/pass_at_8": 1 - accuracy}
    (folder / "summary.json").write_text(json.dumps({"after": after}))


def best_rates(runs: Path, *algorithms: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "sweeps" / "best_rates.py"), str(runs), *algorithms]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_best_mean_over_seeds_is_chosen_for_each_algorithm(tmp_path):
    for seed, (low, high) in enumerate([(0.5, 0.9), (0.5, 0.2)]):
        finished(tmp_path, "1e-5", "nft", seed, low)
        finished(tmp_path, "1e-4", "nft", seed, high)
    # A name that begins with another's is not the other's.
    finished(tmp_path, "1e-5", "nft_sequence", 0, 0.99)
    finished(tmp_path, "1e-5", "grpo", 0, 0.3)
    (tmp_path / "1e-4" / "grpo_seed0").mkdir()
    found = best_rates(tmp_path, "nft", "grpo", "nft_sequence")
    assert found.returncode == 0, found.stderr
    assert found.stdout == "nft@1e-4 grpo@1e-5 nft_sequence@1e-5\n"
    assert "nft: 1e-4: 0.550, 1e-5: 0.500" in found.stderr


def test_an_algorithm_without_a_finished_run_is_named(tmp_path):
    finished(tmp_path, "1e-5", "nft", 0, 0.5)
    found = best_rates(tmp_path, "nft", "rft")
    assert found.returncode == 1
    assert found.stderr.strip().endswith(f"no finished run of rft in {tmp_path}")


@pytest.mark.slow
def test_the_script_trains_each_rate_and_prints_what_the_comparison_takes(tmp_path):
    command = [ROOT / "sweeps" / "rates.sh", "arithmetic_compare", tmp_path, "nft", "1e-5 1e-4", "100"]
    environment = {**os.environ, "NFT_BIN": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT)}
    found = subprocess.run([*command, *TINY], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout in ("nft@1e-5\n", "nft@1e-4\n")
    for rate in ("1e-5", "1e-4"):
        summary = json.loads((tmp_path / rate / "nft_seed100" / "summary.json").read_text())
        assert (summary["learning_rate"], summary["seed"]) == (float(rate), 100)
    again = subprocess.run([*command, *TINY], capture_output=True, text=True, env=environment)
    assert again.stdout == found.stdout
    assert "nft, seed 100" not in again.stderr, "a finished run was run again"
