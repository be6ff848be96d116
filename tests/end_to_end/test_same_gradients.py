"""One process or two, by any strategy, even or uneven shards: one rollout and one set of parameters."""

from __future__ import annotations

import csv

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from nft_lightning.assets import tiny_policy_path
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.policy.loading import TinyModel
from tests.end_to_end.rank_runs import run_here, runs

pytestmark = pytest.mark.slow

CASES = {
    **{name: [f"algorithm={name}"] for name in ("nft", "grpo", "dapo", "infonca", "ppo")},
    "one_problem": [
        "rollout.problems_per_rollout=1",
        "rollout.completions_per_problem=8",
        "batching.minibatch_unit=group",
    ],
}
# What differs in how it is summed over ranks; DDP, the cheapest, sees all of them.
SHARDED_CASES = ("nft", "dapo", "ppo", "one_problem")
CUT = ("fsdp2", "zero2", "zero3")
LORA = {"lora": ["policy.lora_rank=4", "optimizer.learning_rate=1e-3"]}
# FSDP2 and ZeRO refuse it.
OWN = {"own_critic": ["algorithm=ppo", "algorithm.critic=own"]}
STRATEGIES = {name: [f"trainer={name}", "trainer.devices=2"] for name in ("ddp", *CUT)}
# What shards differ in, beyond DDP: a frozen copy, a head outside its own forward, layers run again,
# gradients added up before they are exchanged, adapters.
SHARDED = {
    "reference": ["algorithm=grpo", "algorithm.kl_coefficient=0.1"],
    "memory": [
        "policy.logprobs=fused",
        "policy.gradient_checkpointing=true",
        "batching.max_tokens_per_micro_batch=200",
    ],
    **LORA,
}
EXPORT = "callbacks.export={_target_:nft_lightning.callbacks.export.HuggingFaceExport}"
MASTERS = ["algorithm=ppo", "trainer.precision=bf16-true"]
BF16 = ["trainer.precision=bf16-mixed", "evaluation.every_epochs=1"]
# The same worked solutions whatever bf16 would write.
PURE = ["algorithm=sft", "trainer.precision=bf16-true"]


def last(folder):
    return read_checkpoint(folder / "checkpoints" / "last")


def parameters(folder):
    return last(folder)["state_dict"]


def masters(folder):
    (states,) = read_checkpoint(folder / "checkpoints" / "last")["optimizer_states"]
    return torch.cat([states["state"][i]["master"].flatten() for i in sorted(states["state"])])


def rollout(folder):
    rows = pq.read_table(folder / "rollouts" / "epoch_0000.parquet").to_pylist()
    return [(r["problem"], r["token_ids"], r["verdict"]) for r in rows]


def metrics(folder):
    with open(folder / "metrics.csv") as file:
        return next(r for r in csv.DictReader(file) if r["objective/loss"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    longer = {"dapo_longer": ["algorithm=dapo", "trainer.max_epochs=2"]}
    for name, overrides in {**CASES, **SHARDED, **OWN, **longer, "pure": PURE}.items():
        run_here(folder, name, overrides)
    return folder


def cases_of(strategy):
    if strategy not in CUT:
        return {**CASES, **LORA, **OWN, "pure": PURE}
    if strategy == "zero2":  # what it does otherwise than ZeRO 3 is to keep the parameters whole
        return {"nft": CASES["nft"], "dapo": CASES["dapo"], **LORA, "pure": PURE}
    return {**{name: CASES[name] for name in SHARDED_CASES}, **SHARDED, "pure": PURE}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    cases = {
        f"{strategy}/{name}": [*words, *overrides]
        for strategy, words in STRATEGIES.items()
        for name, overrides in cases_of(strategy).items()
    }
    for strategy in CUT:
        kept = [*STRATEGIES[strategy], EXPORT, *MASTERS]
        cut = [*kept, f"run_dir={folder}/{strategy}/cut", "resume=auto"]
        cases |= {
            f"{strategy}/whole": [*kept, "trainer.max_epochs=2"],
            f"{strategy}/cut": kept,
            f"{strategy}/cut_goes_on": [*cut, "trainer.max_epochs=2"],
            f"{strategy}/bf16": [*STRATEGIES[strategy], *BF16],
        }
    cases |= {f"not_finite/{strategy}": STRATEGIES[strategy] for strategy in ("ddp", "zero2", "zero3")}
    cases["disk_full"] = STRATEGIES["ddp"]
    runs(folder, cases, 2)
    return folder


def agree(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.allclose(value.double(), other[key].double(), rtol=0, atol=1e-5), key


@pytest.mark.parametrize(
    ("strategy", "name"),
    [(s, name) for s in STRATEGIES for name in cases_of(s) if name != "pure"],
)
def test_two_ranks_agree_with_one(alone, two, strategy, name):
    assert rollout(two / strategy / name) == rollout(alone / name)
    one, other = parameters(alone / name), parameters(two / strategy / name)
    assert last(alone / name)["updates_done"] == (1 if name == "one_problem" else 3)
    agree(one, other)


def test_a_reference_and_adapters_make_a_difference(alone):
    plain = parameters(alone / "grpo")
    assert any(not torch.equal(v, plain[k]) for k, v in parameters(alone / "reference").items())
    names = parameters(alone / "lora").keys()
    assert all("lora_" in name for name in names)
    assert len(names) > 8


@pytest.mark.parametrize("strategy", CUT)
def test_shards_go_on_from_their_checkpoint_exactly(two, strategy):
    whole, cut = (read_checkpoint(two / strategy / n / "checkpoints" / "last") for n in ("whole", "cut"))
    assert cut["updates_done"] == 6
    assert all(torch.equal(v, cut["state_dict"][k]) for k, v in whole["state_dict"].items())
    moments = [c["optimizer_states"][0]["state"] for c in (whole, cut)]
    assert "master" in moments[0][0]
    assert all(torch.equal(moments[1][i][k], v[k]) for i, v in moments[0].items() for k in v)
    exported = load_file(two / strategy / "cut" / "export" / "model.safetensors")
    for name, tensor in exported.items():
        assert torch.equal(tensor, cut["state_dict"][f"policy.model.{name}"])


@pytest.mark.parametrize("strategy", CUT)
def test_one_process_goes_on_where_two_stopped(alone, two, strategy):
    going = f"run_dir={two / strategy / 'dapo'}"
    run_here(two, "", ["algorithm=dapo", going, "resume=auto", "trainer.max_epochs=2"])
    agree(parameters(alone / "dapo_longer"), parameters(two / strategy / "dapo"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masters_of_two_ranks_agree_with_one(alone, two, strategy):
    # Each rank rounds its gradient to bf16 before they are summed.
    one, other = masters(alone / "pure"), masters(two / strategy / "pure")
    # The optimizer holds matrices before vectors, which do not decay.
    ordered = sorted(TinyModel().load(1.0).parameters(), key=lambda p: p.dim() < 2)
    begun = torch.cat([p.detach().bfloat16().float().flatten() for p in ordered])
    assert (one - other).norm() < 0.05 * (one - begun).norm()
    assert 2e-4 < (other - begun).abs().max() < 1e-3


@pytest.mark.parametrize("strategy", CUT)
def test_shards_stay_in_fp32_where_bf16_computes(two, strategy):
    assert all(v.dtype != torch.bfloat16 for v in parameters(two / strategy / "bf16").values())
    found = metrics(two / strategy / "bf16")
    assert 1e-4 < float(found["sync/probe_logprob_gap"]) < 0.5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_metrics_add_up_over_the_ranks(alone, two, strategy):
    one, other = metrics(alone / "nft"), metrics(two / strategy / "nft")
    measured = ("time/", "checkpoint/", "batching/", "sync/")
    names = [n for n in one if one[n] and not n.startswith(measured)]
    assert len(names) > 30
    for name in names:
        assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-3, abs=1e-5), name
    assert float(other["time/gather_seconds"]) >= 0


def test_the_parameters_moved(alone):
    before = load_file(tiny_policy_path("tiny") / "model.safetensors")
    after = parameters(alone / "nft")
    moved = [(after[f"policy.model.{k}"] - v).abs().max() for k, v in before.items()]
    assert max(moved) > 2e-4


@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3"])
def test_an_update_that_all_ranks_skip_counts_once(two, strategy):
    folder = two / "not_finite" / strategy
    assert float(metrics(folder)["optimizer/skipped_updates"]) == 3
    assert last(folder)["updates_done"] == 0
    before = load_file(tiny_policy_path("tiny") / "model.safetensors")
    after = parameters(folder)
    assert all(torch.equal(after[f"policy.model.{name}"], v) for name, v in before.items())


def test_a_full_disk_stops_no_rank(two):
    assert (two / "disk_full" / "summary.json").exists()
    assert not list((two / "disk_full").glob("checkpoints/epoch_*"))


@pytest.mark.parametrize(
    ("strategy", "fault", "error"),
    [
        (
            "ddp",
            "engine_fails",
            "RunStoppedError: the engine failed while it wrote completions (Run",
        ),
        ("fsdp2", "training_fails", "ValueError: the device went out in training"),
        ("zero3", "training_fails", "ValueError: the device went out in training"),
    ],
)
def test_a_rank_that_fails_ends_all_with_its_own_error(tmp_path, strategy, fault, error):
    # ``runs`` waits for 500 seconds, where gloo alone would wait for half an hour.
    said = runs(tmp_path, {fault: STRATEGIES[strategy]}, 2, succeed=False)
    assert error in said
