"""A Trainer of one's own: resuming with Lightning's checkpoints, two ranks, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import FSDPStrategy
from transformers import AutoModelForCausalLM, AutoTokenizer

from nft_lightning import (
    GRPO,
    NFT,
    SFT,
    ArithmeticProblems,
    EvaluationConfig,
    ExactResume,
    ExactVerifier,
    FunctionVerifier,
    OptimizerConfig,
    PolicyConfig,
    PolicyModule,
    PromptConfig,
    RolloutConfig,
    RolloutDataModule,
    UserError,
    load_policy,
)
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.policy.prepare import whole_copy

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"problems_per_rollout": 8, "completions_per_problem": 4, "updates_per_rollout": 2}
EVALUATION = EvaluationConfig(problems=4, completions_per_problem=2)


def parts(policy=None, objective=None, verifier=None, **more):
    policy = policy or load_policy("tiny")
    given = {"prompt_template": "equals", "evaluation": EVALUATION, "max_new_tokens": 24}
    data = RolloutDataModule(
        policy, ArithmeticProblems(), verifier or ExactVerifier(), **{**given, **SMALL, **more}
    )
    return PolicyModule(policy, objective or NFT(), learning_rate=2e-4), data


def trainer(**options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"accelerator": "cpu", "num_sanity_val_steps": 0, "enable_checkpointing": False}
    return L.Trainer(**{**quiet, **given, **options})


def fit(folder, epochs, checkpoint=None, exact=False, **save):
    """Return what training leaves: weights, updates, cursor, and what the stock callback counted."""
    module, data = parts()
    stop = EarlyStopping("eval/avg_at_2", mode="max", patience=9, check_on_train_epoch_end=False)
    callbacks = [stop, ModelCheckpoint(dirpath=folder, save_top_k=-1, **save)]
    made = trainer(
        max_epochs=epochs,
        callbacks=[*callbacks, ExactResume()] if exact else callbacks,
        enable_checkpointing=True,
    )
    made.fit(module, data, ckpt_path=checkpoint)
    weights = torch.cat([p.detach().flatten() for p in module.policy.parameters()])
    return weights, (
        module.policy_version,
        data.progress.cursor,
        data.progress.tokens,
        stop.wait_count,
        made.global_step,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"), 3)


SAVED = {
    "after the evaluation": ({"monitor": "eval/avg_at_2", "mode": "max"}, False, "epoch=1-step=4.ckpt"),
    "at the end of an epoch": ({"save_on_train_epoch_end": True}, False, "epoch=1-step=4.ckpt"),
    "after the evaluation, exact": (
        {"monitor": "eval/avg_at_2", "mode": "max"},
        True,
        "epoch=1-step=4.ckpt",
    ),
    "within an epoch": ({"every_n_train_steps": 1}, True, "epoch=1-step=3.ckpt"),
    "before the evaluation": ({"every_n_train_steps": 1}, True, "epoch=1-step=4.ckpt"),
}


@pytest.mark.parametrize("place", SAVED)
def test_a_plain_trainer_resumes_to_the_last_bit(place, undisturbed, tmp_path):
    save, exact, name = SAVED[place]
    fit(tmp_path / "begun", 2, exact=exact, **save)
    resumed = fit(tmp_path / "resumed", 3, tmp_path / "begun" / name, exact, **save)
    assert torch.equal(resumed[0], undisturbed[0])
    assert resumed[1] == undisturbed[1]


def test_a_checkpoint_within_an_epoch_says_what_it_lacks(tmp_path):
    with pytest.warns(UserWarning, match=r"add nft_lightning\.ExactResume\(\)"):
        fit(tmp_path / "warned", 1, every_n_train_steps=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(tmp_path / "exact", 1, exact=True, every_n_train_steps=1)
        fit(tmp_path / "ends", 1, monitor="eval/avg_at_2", mode="max")
    assert not [w for w in said if "ExactResume" in str(w.message)]


def test_sync_check_and_old_logprobs_come_without_asking():
    module, data = parts()
    seen = []
    step = module.training_step

    def watched(batch, batch_idx):
        seen.append([micro.old_logprobs is not None for micro in batch.micro_batches])
        return step(batch, batch_idx)

    module.training_step = watched
    made = trainer(max_epochs=1)
    made.fit(module, data)
    assert made.callback_metrics["sync/probe_logprob_gap"] > 0
    assert len(seen) == 2
    assert not any(seen[0])
    assert seen[1]
    assert all(seen[1])


def test_lora_from_plain_keywords_trains_its_adapters_only():
    policy = load_policy("tiny", lora_rank=4)
    assert policy.config == PolicyConfig(lora_rank=4)
    frozen = {n: p.clone() for n, p in policy.named_parameters() if not p.requires_grad}
    module, data = parts(policy)
    trainer(max_epochs=1).fit(module, data)
    now = dict(policy.named_parameters())
    assert frozen
    assert all(torch.equal(now[name], before) for name, before in frozen.items())
    assert any(bool(p.abs().sum() > 0) for name, p in now.items() if ".lora_B." in name)


def test_the_copy_beside_sharded_parameters_has_no_adapters():
    policy, plain = load_policy("tiny", lora_rank=4), load_policy("tiny")
    copied = whole_copy(policy, torch.device("cpu"), None)
    assert not hasattr(copied, "peft_config")
    expected, found = plain.model.state_dict(), copied.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(p.requires_grad for p in copied.parameters())
    assert any(p.requires_grad for p in policy.parameters())
    assert whole_copy(policy, torch.device("cpu"), torch.bfloat16).dtype == torch.bfloat16


def test_configs_and_plain_keywords_say_the_same():
    policy = load_policy("tiny", PolicyConfig(logprobs="plain"), temperature=0.8)
    _, data = parts(policy, temperature=0.8)
    assert (data.rollout_config.temperature, data.rollout_config.problems_per_rollout) == (0.8, 8)
    whole = RolloutConfig(max_new_tokens=24, temperature=0.8)
    given = RolloutDataModule(
        policy, ArithmeticProblems(), ExactVerifier(), rollout=whole, prompt=PromptConfig("equals")
    )
    assert given.rollout_config == whole
    module = PolicyModule(policy, NFT(), optimizer=OptimizerConfig(learning_rate=1e-5), weight_decay=0.1)
    assert module.optimizer_config == OptimizerConfig(learning_rate=1e-5, weight_decay=0.1)


REFUSED = {
    "a keyword of the rollout": (
        lambda: parts(max_new_token=3),
        r"max_new_token=3 is not known to RolloutDataModule: did you mean max_new_tokens",
    ),
    "a keyword of the optimizer": (
        lambda: PolicyModule(load_policy("tiny"), NFT(), learning_rat=1.0),
        r"learning_rat=1\.0 is not known to PolicyModule: did you mean learning_rate",
    ),
    "a keyword of the policy": (
        lambda: load_policy("tiny", lora_ranks=1),
        r"is not known to load_policy: did you mean lora_rank",
    ),
    "a config of another kind": (
        lambda: load_policy("tiny", {"lora_rank": 1}),
        r"is no PolicyConfig: give config=PolicyConfig",
    ),
    "a type that the shipped policy has not": (
        lambda: load_policy("tiny", dtype="bfloat16"),
        "dtype='bfloat16' has no effect on 'tiny'",
    ),
    "no model": (lambda: load_policy("./nowhere"), "it has no config.json"),
    "another temperature": (
        lambda: parts(temperature=0.5),
        r"temperature=0\.5\)",
    ),
    "a chat without a template": (
        lambda: parts(prompt_template="chat"),
        "needs a tokenizer",
    ),
    "the engine before there is one": (lambda: parts()[1].engine, "has no engine yet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_a_sentence(case):
    make, words = REFUSED[case]
    with pytest.raises(UserError, match=words):
        make()


def half(completion: str, gold: str) -> float:
    return 0.5


ANY_REWARD = FunctionVerifier(function=half, continuous=True)
UNFIT = {
    "rewards": (
        lambda: parts(verifier=FunctionVerifier(function=half, continuous=True)),
        {},
        "right or",
    ),
    "one answer": (
        lambda: parts(objective=GRPO(), completions_per_problem=1),
        {},
        "is too few for GRPO",
    ),
    "precision": (parts, {"precision": "bf16-true"}, r'dtype="bfloat16"'),
    "evaluation": (
        lambda: parts(evaluation=EvaluationConfig(problems=4, every_epochs=3)),
        {},
        r"use Trainer\(check_val_every_n_epoch=3\)",
    ),
    "strategy": (
        parts,
        {"strategy": FSDPStrategy(accelerator=None)},
        "FullySharded",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_is_refused_before_anything_is_generated(case, monkeypatch):
    make, options, words = UNFIT[case]
    if "strategy" in options:
        from nft_lightning.training.checks import check_strategy

        with pytest.raises(UserError, match=words):
            check_strategy(type("Stub", (), {"strategy": options["strategy"]})())
        return
    module, data = make()
    with pytest.raises(UserError, match=words):
        trainer(max_epochs=1, **options).fit(module, data)


def test_the_parts_must_belong_together():
    module, data = parts()
    other, _ = parts(objective=SFT())
    with pytest.raises(UserError, match="give both the same policy"):
        trainer(max_epochs=1).fit(other, data)
    with pytest.raises(UserError, match=r"call trainer\.fit\(module, RolloutDataModule"):
        trainer(max_epochs=1).fit(module, train_dataloaders=[1])
    with pytest.raises(UserError, match="is no PolicyModule"):
        trainer(max_epochs=1).fit(BoringModel(), data)


def weights_of(folder):
    """Return what transformers loads from a folder, and whether its tokenizer is there."""
    found = AutoModelForCausalLM.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).eos_token_id is not None
    return dict(found.named_parameters())


@pytest.mark.parametrize("rank", [0, 4])
def test_the_trained_model_is_one_that_transformers_loads(rank, tmp_path):
    module, data = parts(load_policy("tiny", lora_rank=rank))
    before = {n: p.detach().clone() for n, p in load_policy("tiny").model.named_parameters()}
    trainer(max_epochs=1).fit(module, data)
    module.save_pretrained(tmp_path / "deep" / "model")
    found = weights_of(tmp_path / "deep" / "model")
    expected = {name: tensor.detach() for name, tensor in full_tensors(module.policy.model)}
    assert found.keys() == expected.keys() == before.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert any(not torch.equal(found[name], before[name]) for name in before)


def test_the_best_checkpoint_can_be_written(tmp_path):
    module, data = parts()
    keep = ModelCheckpoint(dirpath=tmp_path, monitor="eval/avg_at_2", mode="max", save_top_k=-1)
    made = trainer(max_epochs=2, callbacks=[keep], enable_checkpointing=True)
    made.fit(module, data)
    first = min(tmp_path.glob("*.ckpt"))
    made.validate(module, data, ckpt_path=first, verbose=False)
    module.save_pretrained(tmp_path / "first")
    saved = torch.load(first, weights_only=False)["state_dict"]
    for name, weight in weights_of(tmp_path / "first").items():
        assert torch.equal(weight, saved[f"policy.model.{name}"]), name


RANKS = """
import sys
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.front.test_own_trainer import parts, trainer
import lightning as L

torch.set_num_threads(1)
count, folder = int(sys.argv[1]), sys.argv[2]
L.seed_everything(0, verbose=False)
module, data = parts()
best = ModelCheckpoint(dirpath=folder, monitor="eval/avg_at_2", mode="max")
options = {"strategy": "ddp", "devices": 2} if count == 2 else {}
made = trainer(max_epochs=2, callbacks=[best], enable_checkpointing=True, **options)
made.fit(module, data)
module.save_pretrained(folder + "/model")
(found,) = made.validate(module, data, verbose=False)
if made.is_global_zero:
    weights = {n: p.detach().clone() for n, p in module.policy.named_parameters()}
    tokens = data.progress.tokens
    torch.save({"weights": weights, "found": found, "tokens": tokens}, folder + "/found.pt")
"""


@pytest.mark.slow
def test_two_ranks_of_torchrun_are_one_run(tmp_path):
    found = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "script.py").write_text(RANKS)
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone"]
        result = subprocess.run(
            [sys.executable, *launcher, str(folder / "script.py"), str(count), str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        found[count] = torch.load(folder / "found.pt", weights_only=True)
        written = weights_of(folder / "model")
        for name, weight in found[count]["weights"].items():
            assert torch.equal(written[name.removeprefix("model.")], weight), name
    one, two = found[1], found[2]
    assert one["tokens"] == two["tokens"]
    # Every held-out problem is answered, by one rank or the other.
    assert one["found"]["eval/pass_at_2_low"] == pytest.approx(
        two["found"]["eval/pass_at_2_low"], abs=1e-6
    )
    for name, weight in one["weights"].items():
        assert torch.allclose(weight, two["weights"][name], atol=1e-4), name


SHARDED = """
import sys
import torch
from nft_lightning import FullySharded
from nft_lightning.engines.weight_sync import full_tensors
from tests.front.test_own_trainer import parts, trainer
import lightning as L

torch.set_num_threads(1)
folder = sys.argv[1]
L.seed_everything(0, verbose=False)
module, data = parts()
made = trainer(max_epochs=1, strategy=FullySharded(), devices=2)
made.fit(module, data)
module.save_pretrained(folder + "/model")
whole = {name: tensor.clone() for name, tensor in full_tensors(module.policy.model)}
if made.is_global_zero:
    torch.save(whole, folder + "/whole.pt")
"""


@pytest.mark.slow
def test_a_sharded_model_is_written_whole(tmp_path):
    (tmp_path / "script.py").write_text(SHARDED)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    ended = subprocess.run(
        [sys.executable, *launcher, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = weights_of(tmp_path / "model")
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)
    before = dict(load_policy("tiny").model.named_parameters())
    assert all(torch.equal(found[name], weight.cpu()) for name, weight in whole.items())
    assert any(not torch.equal(found[name], weight) for name, weight in before.items())
