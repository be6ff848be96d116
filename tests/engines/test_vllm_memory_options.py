"""What a run holds its weights in, and what vLLM computes in beside it: real vLLM on a CPU."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from nft_lightning.assets import tiny_policy_path
from nft_lightning.engines.vllm.engine import VLLMEngineConfig
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.policy.loading import TinyModel
from nft_lightning.rollouts.sync_check import SyncCheck
from nft_lightning.types import Numbers
from tests.end_to_end.rank_runs import run_here

FAST = ("logger=csv", "rollout=vllm")


@pytest.mark.parametrize(
    ("given", "numbers", "dtype", "head"),
    [
        ({}, Numbers(torch.float32, False), "float32", "model"),
        ({}, Numbers(torch.bfloat16, True), "bfloat16", "float32"),
        ({}, Numbers(torch.bfloat16, False), "bfloat16", "model"),
        ({}, Numbers(torch.float16, False), "auto", "model"),
        ({"dtype": "float32"}, Numbers(torch.bfloat16, True), "float32", "float32"),
        ({"head_dtype": "model"}, Numbers(torch.bfloat16, True), "bfloat16", "model"),
    ],
)
def test_auto_is_what_the_trainer_computes_in(given, numbers, dtype, head):
    pytest.importorskip("vllm")
    made = VLLMEngineConfig(**given).like_trainer(numbers)
    assert (made.dtype, made.head_dtype) == (dtype, head)


def column(run, name):
    with open(run / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.vllm
@pytest.mark.slow
def test_qlora_runs_with_vllm(tmp_path):
    pytest.importorskip("bitsandbytes")
    model = ["model=hf", f"model.path={tiny_policy_path('tiny')}"]
    words = [*model, "policy.quantize=4bit", "policy.lora_rank=8", "optimizer.learning_rate=5e-3"]
    run_here(tmp_path, "run", [*words, *FAST, "trainer.max_epochs=2"])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["updates"] == 6
    first, second = column(tmp_path / "run", "sync/merge_rounding")
    assert first == 1
    assert 0.05 < second < 1.1


@pytest.mark.vllm
def test_logits_are_fp32_where_the_trainers_are():
    pytest.importorskip("vllm")
    policy, probe = TinyModel().load(1.0), [tuple(range(5 + i, 77 + i)) for i in range(8)]
    config = VLLMEngineConfig(max_num_seqs=8).like_trainer(Numbers(torch.bfloat16, True))
    engine = config.build(policy.model, policy.tokenizer)
    engine.load_weights(full_tensors(policy.model), 1)
    heads = engine.llm.apply_model(lambda model: model.logits_processor.head_dtype)
    assert heads == [torch.float32]
    assert SyncCheck().check(engine, policy, probe, 1) < 0.25
    engine.llm.llm_engine.engine_core.shutdown()
