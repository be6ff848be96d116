"""What the errors of a running run advise can be done: each key that one names may differ on resume."""

from __future__ import annotations

import ast
import json
import re

import pytest
import torch
from omegaconf import OmegaConf

from benchmarks.equal import differences
from nft_lightning.app import run as running
from nft_lightning.app.build import PACKAGE
from nft_lightning.checkpoints.folder import checkpoints, read_checkpoint
from nft_lightning.compare.comparison import compare
from nft_lightning.errors import UserError
from nft_lightning.records.saved_config import check_agreement
from nft_lightning.training.module import PolicyModule
from tests.resume.conftest import brief

AREAS = "batching|rollout|optimizer|verifier|policy|trainer|callbacks|evaluation|model|problems"
KEY = re.compile(rf"\b(?:{AREAS})(?:\.[a-z_]+)+")
# Raised while a run is going on; UserErrors come before a model is loaded, or stand in the list below.
RAISED = {"RunStoppedError", "EngineError", "SyncError", "ServerError"}


def advised():
    """Every config key in the message of an error that ends a run, with the message."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            raised = isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED
            # vLLM's errors get their advice from a function of this name.
            if raised or (isinstance(node, ast.FunctionDef) and node.name == "remedy"):
                parts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                text = " ".join(p for p in parts if isinstance(p, str))
                found += [(key, text) for key in KEY.findall(text)]
    return sorted(set(found))


def test_messages_name_keys():
    keys = {key for key, _ in advised()}
    expected = {"batching.max_tokens_per_micro_batch", "rollout.engine.max_num_seqs"}
    assert expected <= keys
    assert len(keys) >= 7


@pytest.mark.parametrize(("key", "message"), advised())
def test_a_remedy_may_differ_on_resume(tmp_path, key, message):
    begun = brief("rollout=vllm_server", "run_dir=x")
    OmegaConf.update(begun, key, 1, force_add=True)
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(begun))
    now = begun.copy()
    OmegaConf.update(now, key, 2, force_add=True)
    if "--dtype" in message:  # it says what the server must be started with
        return
    if "resume_allow" in message:
        now.resume_allow = [key]
        assert check_agreement(now, tmp_path / "config.yaml") == {key: (1, 2)}
    else:
        assert check_agreement(now, tmp_path / "config.yaml") == {}


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ("trainer.precision=bf16-mixed", False),
        ("trainer.strategy=ddp", True),
        ("rollout.engine.max_rows=3", True),
        ("verifier.timeout_seconds=9.0", True),
        ("verifier.extract=any", False),
        ("evaluation.problems=5", False),
        ("policy.lora_rank=2", False),
        ("rollout=vllm_server", False),
    ],
)
def test_what_decides_what_is_learned_must_be_named(tmp_path, change, allowed):
    begun = brief("trainer=ddp", "run_dir=x")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(begun))
    key = change.partition("=")[0]
    if allowed:
        assert check_agreement(brief("trainer=ddp", change, "run_dir=x"), tmp_path / "config.yaml") == {}
        return
    with pytest.raises(UserError, match=r"or add resume_allow=\["):
        check_agreement(brief("trainer=ddp", change, "run_dir=x"), tmp_path / "config.yaml")
    found = check_agreement(
        brief("trainer=ddp", change, f"resume_allow=[{key}]", "run_dir=x"), tmp_path / "config.yaml"
    )
    assert found


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["nft", "dpo"])
def test_a_smaller_budget_splits_what_a_checkpoint_holds(tmp_path, leaving, monkeypatch, algorithm):
    options = (f"algorithm={algorithm}", "trainer.max_epochs=2")
    running.run(brief(f"run_dir={tmp_path / 'whole'}", *options))
    cut = f"run_dir={tmp_path / 'cut'}"
    leaving(brief(cut, *options), "epoch 1 after 0")
    sizes = []
    backward_one = PolicyModule.backward_one

    def measured(self, micro, last):
        sizes.append(tuple(micro.input_ids.shape))
        backward_one(self, micro, last)

    monkeypatch.setattr(PolicyModule, "backward_one", measured)
    # Another maximum for the engine, too: rows in flight are no condition of a run.
    smaller = ("batching.max_tokens_per_micro_batch=64", "rollout.engine.max_rows=9", "resume=auto")
    running.run(brief(cut, *options, *smaller))
    if algorithm == "nft":
        assert all(rows * width <= 64 or rows == 1 for rows, width in sizes)
    assert len(sizes) > 4
    one, two = (
        read_checkpoint(tmp_path / n / "checkpoints" / "last")["state_dict"] for n in ("whole", "cut")
    )
    assert all(torch.allclose(v.double(), two[k].double(), atol=2e-6) for k, v in one.items())


@pytest.mark.slow
def test_a_lower_rate_is_taken_and_told(tmp_path, leaving):
    run = tmp_path / "run"
    leaving(brief(f"run_dir={run}", "seed=1"), "epoch 2")
    lower = ("optimizer.learning_rate=1e-5", "optimizer.weight_decay=0.1", "resume=auto", "seed=1")
    with pytest.raises(
        UserError, match=r"add resume_allow=\[optimizer.learning_rate,optimizer.weight_d"
    ):
        running.run(brief(f"run_dir={run}", *lower))
    running.run(brief(f"run_dir={run}", *lower, "resume_allow=[optimizer]"))
    groups = read_checkpoint(run / "checkpoints" / "last")["optimizer_states"][0]["param_groups"]
    assert [(g["lr"], g["initial_lr"]) for g in groups] == [(1e-5, 1e-5)] * 2
    assert [(g["name"], g["weight_decay"]) for g in groups] == [
        ("policy", 0.1),
        ("policy_no_decay", 0.0),
    ]
    (told,) = json.loads((run / "changes.json").read_text())
    assert (told["epochs"], told["updates"]) == (2, 0)
    assert told["changed"]["optimizer.learning_rate"] == [2e-4, 1e-5]
    running.run(brief(f"run_dir={tmp_path / 'other'}", *lower[:2], "seed=1", "algorithm=grpo"))
    warnings = compare([run, tmp_path / "other"]).warnings
    assert any("after 2 epochs: optimizer.learning_rate=1e-05 in place of 0.0002" in w for w in warnings)


@pytest.mark.slow
def test_an_unchanged_budget_changes_nothing(tmp_path, leaving):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    budget = "batching.max_tokens_per_micro_batch=64"
    running.run(brief(f"run_dir={whole}", budget, "trainer.max_epochs=2"))
    leaving(brief(f"run_dir={cut}", budget, "trainer.max_epochs=2"), "epoch 1 after 0")
    assert len(checkpoints(cut / "checkpoints")) == 2
    running.run(brief(f"run_dir={cut}", budget, "trainer.max_epochs=2", "resume=auto"))
    assert differences(whole, cut) == []
