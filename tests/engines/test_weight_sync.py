"""Injected faults: a run whose rollouts would not come from the current weights ends, and says why."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks.build_tiny import build_tokenizer
from nft_lightning.app import run as running
from nft_lightning.engines.base import EngineError, SyncError, SyncReport
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.engines.weight_sync import Manifest, full_tensors
from nft_lightning.policy.loading import TinyModel
from nft_lightning.rollouts.sync_check import SyncCheck
from nft_lightning.training import synced_engine
from nft_lightning.types import Sampling
from tests.engines.shared import shared_vllm_engine
from tests.tiny_shape import tiny_shape

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
FAST = ("optimizer.learning_rate=3e-3", "callbacks=none", "logger=csv", "evaluation.every_epochs=2")


@pytest.fixture
def engine(monkeypatch):
    """The engine that every run of a test gets; what a test breaks on it is mended afterwards."""
    from nft_lightning.engines.vllm.engine import VLLMEngineConfig

    shared = shared_vllm_engine()
    shared.policy_version = -1
    monkeypatch.setattr(VLLMEngineConfig, "build", lambda self, model, tokenizer: shared)
    return shared


@pytest.fixture
def start(compose_config, quick, tmp_path, engine):
    """Train two epochs with real vLLM."""

    def train(*overrides):
        settings = ("rollout=vllm", f"run_dir={tmp_path / 'run'}", *quick, *FAST, *overrides)
        return running.run(compose_config(*settings))

    return train


def test_it_trains_and_the_proof_holds(start):
    assert start()["updates"] == 4


def test_a_skipped_sync(start, engine, monkeypatch):
    real = engine.load_weights

    def skip(named_tensors, version):
        if version == 0:
            return real(named_tensors, version)
        engine.policy_version = version
        return SyncReport(version, 0, 0, 0.0)

    monkeypatch.setattr(engine, "load_weights", skip)
    with pytest.raises(SyncError, match=r"does not hold policy version 2: .* differ by"):
        start()


def test_a_sync_that_forgets_the_version(start, engine, monkeypatch):
    monkeypatch.setattr(
        engine, "load_weights", lambda named_tensors, version: SyncReport(version, 0, 0, 0.0)
    )
    with pytest.raises(SyncError, match="the engine says it holds version -1"):
        start()


def test_the_first_checkpoint_loaded_over_the_synced_weights(start, engine, monkeypatch):
    real = engine.load_weights
    first = TinyModel().load(1.0).model

    def reload(named_tensors, version):
        report = real(named_tensors, version)
        real(full_tensors(first), version)
        return report

    monkeypatch.setattr(engine, "load_weights", reload)
    with pytest.raises(SyncError, match="does not hold policy version 2"):
        start()


def test_a_parameter_that_the_engine_never_wrote(start, engine, monkeypatch):
    monkeypatch.setattr(engine, "own_names", {*engine.own_names, "model.layers.9.nobody.weight"})
    with pytest.raises(SyncError, match=r"left 1 of its 28 parameters unwritten, 'model.layers.9"):
        start()


def test_a_prefix_cache_that_is_not_reset(start, engine, monkeypatch):
    real = engine.llm.reset_prefix_cache
    calls = []

    def only_once():
        calls.append(1)
        return real() if len(calls) == 1 else True

    monkeypatch.setattr(engine.llm, "reset_prefix_cache", only_once)
    with pytest.raises(SyncError, match="does not hold policy version 2"):
        start()


def test_a_prefix_cache_that_says_it_was_not_reset(start, engine, monkeypatch):
    monkeypatch.setattr(engine.llm, "reset_prefix_cache", lambda: False)
    with pytest.raises(SyncError, match="did not reset its prefix cache"):
        start()


def test_fewer_completions_than_asked(start, engine, monkeypatch):
    real = engine.completions
    monkeypatch.setattr(engine, "completions", lambda outputs: real(outputs)[:1])
    with pytest.raises(RuntimeError, match="completions where"):
        start()


def test_an_engine_that_died(start, engine, monkeypatch):
    from vllm.v1.engine.exceptions import EngineDeadError

    def die(*_, **__):
        raise EngineDeadError

    monkeypatch.setattr(engine.llm, "generate", die)
    with pytest.raises(EngineError, match=r"vLLM failed while it wrote completions \(EngineDeadError: "):
        start()


def test_greedy_completions_are_those_of_the_hf_engine(engine):
    policy = TinyModel().load(1.0)
    prompts = [
        tuple(policy.tokenizer.encode(f"{a}+{b}-3=", add_special_tokens=False))
        for a in range(1, 8)
        for b in range(1, 6)
    ]
    written = []
    for either in (HFEngine(policy.model, policy.tokenizer), engine):
        either.load_weights(full_tensors(policy.model), 1)
        groups = either.generate(prompts, Sampling(0.0, 40), [[0]] * len(prompts))
        written.append([g[0].token_ids.tolist() for g in groups])
    assert written[0] == written[1]


def test_the_manifest_names_what_is_wrong():
    model = torch.nn.Linear(2, 3)
    manifest = Manifest.of(model)
    assert dict(manifest.checked(full_tensors(model), 1, {})).keys() == {"weight", "bias"}
    with pytest.raises(SyncError, match="no tensor 'other'"):
        list(manifest.checked([("other", torch.zeros(1))], 1, {}))


# From here on each test starts an engine of its own, which ends the shared one.
@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tied")
    tokenizer: PreTrainedTokenizerFast = build_tokenizer()
    config = Qwen2Config(
        **tiny_shape(len(tokenizer), 64, num_key_value_heads=1, max_position_embeddings=256),
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)

    tokenizer.save_pretrained(folder)
    return folder


def moved(model):
    """The model with other weights, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("stale", [False, True])
def test_a_tied_head(tied, monkeypatch, stale):
    pytest.importorskip("vllm")
    from nft_lightning.engines.vllm import transfer as vllm_transfer
    from nft_lightning.engines.vllm.engine import VLLMEngineConfig
    from nft_lightning.policy.policy import Policy

    policy = Policy(Qwen2ForCausalLM.from_pretrained(tied), build_tokenizer())
    engine = VLLMEngineConfig(max_num_seqs=8).build(policy.model, policy.tokenizer)
    proof, probe = SyncCheck(), [tuple(range(5, 77))]
    engine.load_weights(full_tensors(policy.model), 0)
    proof.check(engine, policy, probe, 0)
    if stale:
        monkeypatch.setattr(vllm_transfer, "retie", lambda model: None)
    moved(policy.model)
    engine.load_weights(full_tensors(policy.model), 1)
    if not stale:
        assert proof.check(engine, policy, probe, 1) < 1e-3
        return
    with pytest.raises(SyncError, match="does not hold policy version 1"):
        proof.check(engine, policy, probe, 1)


def test_an_engine_started_after_a_sync_that_failed_computes_like_the_trainer():
    pytest.importorskip("vllm")
    from nft_lightning.engines.vllm.engine import VLLMEngineConfig

    policy, probe = TinyModel().load(1.0), [tuple(range(5, 77))]
    config = VLLMEngineConfig(max_num_seqs=8)
    first = config.build(policy.model, policy.tokenizer)
    named = list(full_tensors(policy.model))
    with pytest.raises(SyncError, match="1 of 39 tensors missing"):
        first.load_weights(named[:-1], 0)
    second = config.build(policy.model, policy.tokenizer)
    for engine in (second, first):
        engine.load_weights(named, 1)
        assert SyncCheck().check(engine, policy, probe, 1) < 1e-4


def dtypes(model):
    return {str(p.dtype) for p in model.parameters()}


def test_an_engine_in_bf16_beside_weights_in_fp32():
    pytest.importorskip("vllm")
    from nft_lightning.engines.vllm.engine import VLLMEngineConfig

    policy, probe = TinyModel().load(1.0), [tuple(range(5 + i, 77 + i)) for i in range(8)]
    engine = VLLMEngineConfig(max_num_seqs=8, dtype="bfloat16").build(policy.model, policy.tokenizer)
    report = engine.load_weights(full_tensors(policy.model), 1)
    assert engine.llm.apply_model(dtypes) == [{"torch.bfloat16"}]
    assert report.bytes == 2 * sum(p.numel() for p in policy.parameters())
    assert dtypes(policy) == {"torch.float32"}
    gap = SyncCheck().check(engine, policy, probe, 1)
    assert 1e-3 < gap < 0.25, gap
    moved(policy.model)
    with pytest.raises(SyncError, match="does not hold policy version 1"):
        SyncCheck().check(engine, policy, probe, 1)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("missing", "1 of 39 tensors missing"), ("shape", "where the engine has"), ("twice", "came twice")],
)
def test_an_incomplete_stream(compose_config, quick, tmp_path, monkeypatch, fault, words):
    pytest.importorskip("vllm")

    def broken(model):
        for i, (name, tensor) in enumerate(full_tensors(model)):
            if i == 3 and fault == "missing":
                continue
            yield name, tensor[:-1] if i == 3 and fault == "shape" else tensor
            if i == 3 and fault == "twice":
                yield name, tensor

    monkeypatch.setattr(synced_engine, "full_tensors", broken)
    with pytest.raises(SyncError, match=words):
        running.run(compose_config("rollout=vllm", f"run_dir={tmp_path}", *quick, *FAST))
