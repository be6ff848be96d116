"""Every algorithm through the whole loop, its options, and what lands in the run folder."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest
import safetensors
import torch

from nft_lightning.app import run as running
from nft_lightning.app.parts import build_parts
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.errors import UserError
from nft_lightning.policy.loading import TinyModel
from tests.objectives.family import FAMILY

pytestmark = pytest.mark.slow


def completions_of(folder, epoch=0):
    rows = pq.read_table(folder / "rollouts" / f"epoch_{epoch:04d}.parquet").to_pylist()
    return {(r["problem_id"], r["sample"]): r["completion"] for r in rows}


def logged_in(folder):
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return {k: [float(r[k]) for r in rows if r[k]] for k in rows[0]}


@pytest.fixture(scope="module")
def grpo_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grpo") / "run"


@pytest.mark.parametrize("algorithm", ["grpo", *sorted(set(FAMILY) - {"grpo", "distillation"})])
def test_every_algorithm_trains_from_the_same_first_completions(
    algorithm, grpo_folder, tmp_path, compose_config, quick
):
    """Distillation needs a teacher: see tests/objectives/test_distillation.py."""
    if not grpo_folder.exists():
        running.run(compose_config("algorithm=grpo", f"run_dir={grpo_folder}", *quick))
    folder = grpo_folder if algorithm == "grpo" else tmp_path / "run"
    if algorithm != "grpo":
        running.run(compose_config(f"algorithm={algorithm}", f"run_dir={folder}", *quick))
    metrics = logged_in(folder)
    assert metrics["progress/policy_version"][-1] == 4
    assert all(x == x for x in metrics["objective/loss"] + metrics["optimizer/gradient_norm"])
    if algorithm == "sft":
        assert all(text.endswith("}") and "=" in text for text in completions_of(folder).values())
        assert metrics["rollout/completions"] == [8, 8]
        return
    first, ours = completions_of(grpo_folder), completions_of(folder)
    shared = first.keys() & ours.keys()
    assert len(shared) >= 8
    assert all(first[k] == ours[k] for k in shared)


def test_ppo_has_a_head_with_its_own_rate_that_is_not_exported(tmp_path, compose_config, quick):
    running.run(compose_config("algorithm=ppo", f"run_dir={tmp_path}", *quick))
    metrics = logged_in(tmp_path)
    assert len(metrics["objective/explained_variance"]) == len(metrics["objective/value_loss"]) == 2
    state = read_checkpoint(tmp_path / "checkpoints" / "last")
    rates = {g["name"]: g["lr"] for g in state["optimizer_states"][0]["param_groups"]}
    critic = {name: rate for name, rate in rates.items() if name.startswith("critic")}
    assert set(critic.values()) == {1e-3}
    assert rates == {"policy": 2e-4, "policy_no_decay": 2e-4, **critic}
    assert state["state_dict"]["critic.outer.weight"].abs().max() > 0
    with safetensors.safe_open(tmp_path / "export" / "model.safetensors", "pt") as exported:
        assert not any("critic" in k or "outer" in k for k in exported.keys())  # noqa: SIM118


def test_ppo_with_a_critic_of_its_own(tmp_path, compose_config, quick):
    given = ("algorithm=ppo", "algorithm.critic=own", "algorithm.critic_learning_rate=1e-4")
    running.run(compose_config(*given, f"run_dir={tmp_path}", *quick))
    metrics = logged_in(tmp_path)
    assert len(metrics["objective/explained_variance"]) == len(metrics["objective/value_loss"]) == 2
    state = read_checkpoint(tmp_path / "checkpoints" / "last")
    rates = {g["name"]: g["lr"] for g in state["optimizer_states"][0]["param_groups"]}
    assert rates == {
        "policy": 2e-4,
        "policy_no_decay": 2e-4,
        "critic": 1e-3,
        "critic_no_decay": 1e-3,
        "critic_trunk": 1e-4,
        "critic_trunk_no_decay": 1e-4,
    }
    with safetensors.safe_open(tmp_path / "export" / "model.safetensors", "pt") as exported:
        assert not any("critic" in k or "trunk" in k for k in exported.keys())  # noqa: SIM118


def test_options_run_and_the_reference_stays_out_of_what_is_saved(tmp_path, compose_config, quick):
    options = ("algorithm.kl_coefficient=0.1", "algorithm.entropy_coefficient=0.01")
    correction = ("algorithm.importance_correction=truncate", "algorithm.mask_truncated=true")
    correction += ("algorithm.off_policy_mask=0.5",)
    folder = tmp_path / "run"
    running.run(compose_config("algorithm=grpo", f"run_dir={folder}", *quick, *options, *correction))
    metrics = logged_in(folder)
    # The engine samples from the trainer's own model; the first policy is the reference.
    assert metrics["objective/importance_weight_mean"] == pytest.approx([1.0, 1.0], abs=1e-4)
    assert all(0 < kl < 1 for kl in metrics["objective/kl_reference"])
    assert all(0 <= share < 1 for share in metrics["objective/off_policy_masked_fraction"])
    state = read_checkpoint(folder / "checkpoints" / "last")
    assert {k.split(".")[0] for k in state["state_dict"]} == {"policy"}
    count = len(list(TinyModel().load(1.0).parameters()))
    assert len(state["optimizer_states"][0]["state"]) == count


def test_the_gradient_cosine_needs_batches_that_fit_both(tmp_path, compose_config, quick):
    second = "callbacks.gradient_cosine.second={_target_:nft_lightning.objectives.DPO}"
    words = [
        "callbacks=gradient_cosine",
        second,
        "batching.minibatch_unit=completion",
        f"run_dir={tmp_path}/run",
    ]
    with pytest.raises(UserError, match=r"callbacks\.gradient_cosine \(DPO\)"):
        running.run(compose_config(*words, *quick))


def test_the_gradient_cosine_is_one_at_first_and_changes_nothing(tmp_path, compose_config, quick):
    states = []
    for callbacks in ("default", "gradient_cosine"):
        folder = tmp_path / callbacks
        rate = ("optimizer.learning_rate=1e-3", "batching.updates_per_rollout=4")
        running.run(compose_config(f"callbacks={callbacks}", f"run_dir={folder}", *quick, *rate))
        states.append(read_checkpoint(folder / "checkpoints" / "last")["state_dict"])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    metrics = logged_in(folder)
    assert metrics["gradient/cosine_first_update"] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert all(x < 0.9999 for x in metrics["gradient/cosine_last_update"])
    with open(folder / "gradient_cosine.csv") as file:
        rows = list(csv.DictReader(file))
    # An update whose share of the rollout has no usable group is no update, and no row.
    measured = [(r["epoch"], r["update"]) for r in rows]
    assert measured == sorted(measured)
    assert {e for e, _ in measured} == {"0", "1"}
    assert len(measured) >= 6


def test_nft_and_dr_grpo_agree_on_the_first_update_too(tmp_path, compose_config, quick):
    first = ("callbacks.gradient_cosine.first.prompt_weight=one_minus_accuracy",)
    second = ("callbacks.gradient_cosine.second._target_=nft_lightning.objectives.DrGRPO",)
    folder = tmp_path / "run"
    running.run(
        compose_config("callbacks=gradient_cosine", f"run_dir={folder}", *quick, *first, *second)
    )
    assert logged_in(folder)["gradient/cosine_first_update"] == pytest.approx([1.0, 1.0], abs=1e-5)


def test_sft_without_solutions_is_refused(tmp_path, compose_config):
    path = tmp_path / "problems.jsonl"
    rows = [{"problem": f"{i}+1", "answer": str(i + 1)} for i in range(60)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    chosen = ("problems=jsonl", f"problems.path={path}", "algorithm=sft", "run_dir=x")
    with pytest.raises(UserError, match="no worked solution"):
        build_parts(compose_config(*chosen))
    path.write_text("".join(json.dumps({**r, "solution": "so"}) + "\n" for r in rows))
    assert build_parts(compose_config(*chosen)).source.problem(0, 0).solution == "so"


def test_a_refused_option_says_why(compose_config):
    with pytest.raises(UserError, match="forms no groups"):
        build_parts(compose_config("algorithm=ppo", "+algorithm.prompt_weight=sqrt_odds", "run_dir=x"))
    with pytest.raises(UserError, match="right/wrong signal"):
        build_parts(compose_config("algorithm.overlong_buffer_fraction=0.2", "run_dir=x"))
