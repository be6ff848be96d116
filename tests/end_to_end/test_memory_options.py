"""Whole runs with adapters and in half precision."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from safetensors.torch import load_file

from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.evaluation.trained import trained_model
from nft_lightning.training.module import PolicyModule
from tests.end_to_end.rank_runs import run_here

pytestmark = pytest.mark.slow
LORA = [
    "policy.lora_rank=8",
    "optimizer.learning_rate=5e-3",
    "algorithm=grpo",
    "algorithm.kl_coefficient=0.01",
    "callbacks.export={_target_:nft_lightning.callbacks.export.HuggingFaceExport}",
]


def last(folder):
    return read_checkpoint(folder / "checkpoints" / "last")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    run_here(folder, "whole", [*LORA, "trainer.max_epochs=2"])
    run_here(folder, "cut", LORA)
    run_here(folder, "cut", [*LORA, "trainer.max_epochs=2", "resume=auto"])
    return folder


def test_adapters_are_all_that_is_saved_and_they_go_on_exactly(adapted):
    whole, cut = last(adapted / "whole"), last(adapted / "cut")
    names = whole["state_dict"].keys()
    assert names
    assert all("lora_" in name for name in names)
    assert cut["updates_done"] == 6
    assert all(torch.equal(v, cut["state_dict"][k]) for k, v in whole["state_dict"].items())
    assert any(v.abs().max() > 1e-3 for k, v in whole["state_dict"].items() if "lora_B" in k)
    moments = [c["optimizer_states"][0]["state"] for c in (whole, cut)]
    assert len(moments[0]) == len(names)
    assert all(torch.equal(moments[1][i][k], v[k]) for i, v in moments[0].items() for k in v)


def test_the_export_is_the_merged_model(adapted):
    policy = trained_model(adapted / "whole", "last").load(1.0)
    exported = load_file(adapted / "whole" / "export" / "model.safetensors")
    merged = dict(full_tensors(policy.model))
    assert exported.keys() == merged.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in merged.items())
    policy.model.merge_and_unload()
    loaded = trained_model(adapted / "whole", None).load(1.0)
    ids = torch.arange(1, 20)[None]
    assert torch.allclose(loaded.model(ids).logits, policy.model(ids).logits, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("options", [[], ["policy.lora_rank=8", "policy.gradient_checkpointing=true"]])
def test_losses_stay_in_fp32(tmp_path, monkeypatch, precision, options):
    seen, token_loss = set(), PolicyModule.token_loss

    def watched(self, objective, micro):
        out, tokens = token_loss(self, objective, micro)
        found = (
            out.logprobs,
            tokens.loss,
            micro.token_weight,
            micro.engine_logprobs,
            micro.old_logprobs,
        )
        seen.update(t.dtype for t in found if t is not None)
        return out, tokens

    monkeypatch.setattr(PolicyModule, "token_loss", watched)
    run_here(tmp_path, "run", [f"trainer.precision={precision}", *options])
    assert seen <= {torch.float32, torch.float64}
    with open(tmp_path / "run" / "metrics.csv") as file:
        found = next(r for r in csv.DictReader(file) if r["objective/loss"])
    assert math.isfinite(float(found["objective/loss"]))
    assert 1e-4 < float(found["sync/probe_logprob_gap"]) < 0.5
    stored = {v.dtype for k, v in last(tmp_path / "run")["state_dict"].items()}
    pure = precision == "bf16-true" and not options
    assert stored == {torch.bfloat16 if pure else torch.float32}


def test_a_run_without_padding_ends_with_the_same_parameters(tmp_path):
    run_here(tmp_path, "padded", [])
    run_here(tmp_path, "flat", ["policy.padding_free=true"])
    ends = [last(tmp_path / name)["state_dict"] for name in ("padded", "flat")]
    gaps = [(ends[0][k] - ends[1][k]).abs().max() for k in ends[0]]
    assert max(gaps) < 1e-5
    padding = []
    for name in ("padded", "flat"):
        with open(tmp_path / name / "metrics.csv") as file:
            found = [r["batching/padding_fraction"] for r in csv.DictReader(file)]
        padding.append(max(float(value) for value in found if value))
    assert padding[0] > 0
    assert padding[1] == 0
