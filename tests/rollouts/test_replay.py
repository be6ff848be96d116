"""Training on the recorded rollouts of a run."""

from __future__ import annotations

import shutil

import pytest
import torch
from omegaconf import OmegaConf

from nft_lightning.app import run as running
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.errors import UserError
from nft_lightning.policy.loading import TinyModel
from nft_lightning.rollouts.replay import Replay
from nft_lightning.rollouts.table import TOKENS, answers, groups_of
from nft_lightning.types import Completion, Group, Problem, Verdict
from tests.commands import command
from tests.resume.conftest import brief

QUICK = ("trainer.max_epochs=2", "callbacks.export=null", "evaluation.problems=2")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folder of a run whose ratios are to the engine's log-probabilities."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    running.run(brief(*QUICK, "rollout.old_logprobs=writer", f"run_dir={folder}"))
    return folder


def replay(recorded, folder, *words):
    running.run(brief("rollout=replay", f"rollout.path={recorded}", *QUICK, *words, f"run_dir={folder}"))
    return read_checkpoint(folder / "checkpoints" / "last")


@pytest.mark.slow
def test_its_own_rollouts_give_its_own_weights(recorded, tmp_path):
    whole = read_checkpoint(recorded / "checkpoints" / "last")
    again = replay(recorded, tmp_path / "run")
    assert again["updates_done"] == whole["updates_done"] == 6
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(again["state_dict"][name], tensor), name


@pytest.mark.slow
def test_another_algorithm_learns_from_them_and_they_can_be_read_again(recorded, tmp_path):
    once = replay(recorded, tmp_path / "once", "algorithm=grpo")
    twice = replay(recorded, tmp_path / "twice", "algorithm=grpo", "trainer.max_epochs=3")
    assert (once["updates_done"], twice["updates_done"]) == (6, 9)
    files = sorted((tmp_path / "twice" / "rollouts").iterdir())
    assert files[0].read_bytes() != files[1].read_bytes()
    assert len(files) == 3


@pytest.mark.slow
def test_an_engine_that_only_evaluates_gets_weights_for_evaluations_only(
    recorded, tmp_path, monkeypatch
):
    load_weights, versions = HFEngine.load_weights, []

    def counted(self, named_tensors, version):
        versions.append(version)
        return load_weights(self, named_tensors, version)

    monkeypatch.setattr(HFEngine, "load_weights", counted)
    replay(recorded, tmp_path / "run")
    evaluated = [path.stem for path in sorted((tmp_path / "run" / "evaluations").iterdir())]
    assert [f"update_{version:06d}" for version in versions] == evaluated


def test_groups_survive_the_way_through_a_table():
    completions = (
        Completion((5, 6), "a", (-0.5, -0.25), False, 3),
        Completion((7,), "b", (-1.0,), True, 3),
    )
    verdicts = (Verdict("correct", "4"), Verdict("wrong", None))
    groups = [
        Group(Problem(f"p{i}", "2+2", "4"), (1, 2), completions, verdicts, (1.0, 0.0)) for i in range(2)
    ]
    assert groups_of(answers(groups, TOKENS), lambda text: (1, 2)) == groups
    assert groups_of(answers([], TOKENS), lambda text: (1, 2)) == []


def test_rollouts_of_another_tokenizer_are_refused(tmp_path):
    from nft_lightning.records.rollouts import write

    completion = Completion((5, 6), "no such text", (-0.5, -0.25), False, 0)
    group = Group(Problem("p", "2+2", "4"), (1,), (completion,), (Verdict("wrong", None),), (0.0,))
    (tmp_path / "rollouts").mkdir()
    write(answers([group], TOKENS), tmp_path / "rollouts" / "epoch_0000.parquet")
    replay = Replay(str(tmp_path), lambda text: (1,))
    with pytest.raises(UserError, match="written with another tokenizer: 'no such text' would be"):
        replay.check(TinyModel().load(1.0).tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["problems.prompt.template=plain"], "was written with problems.prompt="),
        (["rollout.temperature=0.7"], "was written with rollout.temperature=1.0, not 0.7"),
        (["algorithm=sft"], "has no effect on SFT"),
        (["rollout.old_logprobs=trainer"], "rollout.old_logprobs='trainer' is not the policy"),
        (["rollout.max_staleness=1"], "rollout.max_staleness=1 has no effect on rollouts that are"),
    ],
)
def test_what_cannot_be_replayed_is_refused(recorded, words, sentence):
    ended = command("nft-train", "rollout=replay", f"rollout.path={recorded}", *words)
    assert sentence in ended.sentence


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "rollout.path"),
        (["rollout.path=nowhere"], "rollout.path='nowhere' holds no rollouts/epoch_*.parquet"),
    ],
)
def test_a_run_must_be_named(words, sentence):
    assert sentence in command("nft-train", "rollout=replay", *words).sentence


@pytest.mark.slow
def test_a_folder_without_its_config_is_refused(recorded, tmp_path):
    shutil.copytree(recorded / "rollouts", tmp_path / "rollouts")
    words = ["rollout=replay", f"rollout.path={tmp_path}"]
    assert "holds no config.yaml" in command("nft-train", *words).sentence
    OmegaConf.save(OmegaConf.load(recorded / "config.yaml"), tmp_path / "config.yaml")
    assert command("nft-train", *words).code == 0
