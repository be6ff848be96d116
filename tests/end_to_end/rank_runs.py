"""Runs one config after the other in this process, alone or as one of several ranks."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from unittest import mock

import torch
from hydra import compose, initialize_config_dir

from nft_lightning.app import run as running
from nft_lightning.app.build import CONF_DIR
from nft_lightning.checkpoints import folder
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.training.module import PolicyModule
from tests.forked_ranks import run_ranks

SETTINGS = (
    "rollout.problems_per_rollout=7",
    "rollout.completions_per_problem=4",
    "evaluation.problems=3",
    "evaluation.completions_per_problem=1",
    "evaluation.every_epochs=100",
    "batching.updates_per_rollout=3",
    "trainer.max_epochs=1",
    "callbacks.progress=null",
    "callbacks.export=null",
    "callbacks.curve=null",
)


def run_here(parent: Path, name: str, overrides: list[str]) -> None:
    with initialize_config_dir(str(CONF_DIR.resolve())):
        cfg = compose("train", [*SETTINGS, f"run_dir={parent / name}", *overrides])
    running.run(cfg, [])


def not_finite_on_the_last_rank():
    backward_one = PolicyModule.backward_one

    def broken(self, micro, last):
        backward_one(self, micro, last)
        if self.trainer.global_rank == self.trainer.world_size - 1:
            nothing = torch.zeros(())
            self.update.add(torch.tensor(float("nan")), nothing, nothing)

    return mock.patch.object(PolicyModule, "backward_one", broken)


def engine_fails_on_the_last_rank():
    generate = HFEngine.generate

    def broken(self, prompts, sampling, seeds):
        if self.policy_version == 0 and len(prompts) == 3 and len(seeds[0]) == 4:
            raise RuntimeError("the device fell off the bus")
        return generate(self, prompts, sampling, seeds)

    return mock.patch.object(HFEngine, "generate", broken)


def training_fails_on_the_last_rank():
    backward_one = PolicyModule.backward_one

    def broken(self, micro, last):
        if self.trainer.global_rank == self.trainer.world_size - 1:
            raise ValueError("the device went out in training")
        backward_one(self, micro, last)

    return mock.patch.object(PolicyModule, "backward_one", broken)


def disk_is_full():
    error = OSError("no space left on device")
    return mock.patch.object(folder, "write_checkpoint", side_effect=error)


FAULTS = {
    "disk_full": disk_is_full,
    "training_fails": training_fails_on_the_last_rank,
    "not_finite": not_finite_on_the_last_rank,
    "engine_fails": engine_fails_on_the_last_rank,
}


def runs(
    parent: Path, cases: dict[str, list[str]], processes: int, *common: str, succeed: bool = True
) -> str:
    """All cases, by so many ranks; what they wrote to stderr."""
    words = [f"{name}:{shlex.join([*common, *overrides])}" for name, overrides in cases.items()]
    result = run_ranks(processes, "tests.end_to_end.rank_runs", str(parent), *words)
    assert (result.returncode == 0) is succeed, result.stderr[-4000:]
    return result.stderr


if __name__ == "__main__":
    torch.set_num_threads(1)
    for word in sys.argv[2:]:
        case, _, given = word.partition(":")
        with FAULTS.get(case.partition("/")[0], contextlib.nullcontext)():
            run_here(Path(sys.argv[1]), case, shlex.split(given))
