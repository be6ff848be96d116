"""Every architecture with real vLLM in the trainer's process."""

from __future__ import annotations

import gc

import pytest
import torch

from nft_lightning.app.preflight import check_engine
from nft_lightning.engines.vllm.engine import VLLMEngineConfig
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.policy.loading import HFModel
from tests.architectures.samples import largest_gap, prompts_of, written
from tests.architectures.table import ARCHITECTURES, TEMPERATURE, scatter

pytestmark = pytest.mark.vllm
CONFIG = VLLMEngineConfig(max_num_seqs=16)
PLAYED = [name for name, chosen in ARCHITECTURES.items() if chosen.plays]


@pytest.fixture
def start():
    """Build an engine that is gone when the test ends: the next one would lose its groups to it."""
    built = []

    def build(policy):
        built.append(CONFIG.build(policy.model, policy.tokenizer))
        return built[0]

    yield build
    for engine in built:
        engine.llm.llm_engine.engine_core.shutdown()
        del engine.llm
    gc.collect()


def classes(model):
    """What vLLM could change of the classes of a model's parts."""
    found = {}
    for cls in {type(module) for module in model.modules()}:
        # transformers keeps the answers to some questions in its classes.
        own = {name: value for name, value in vars(cls).items() if not name.endswith("_cached_value")}
        found[cls] = cls.__bases__, own
    return found


@pytest.mark.parametrize("architecture", PLAYED)
def test_completions_have_the_trainers_logprobs_before_and_after_an_update(architecture, policy, start):
    before = classes(policy.model)
    ids = torch.tensor([prompts_of()[1]])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits
    check_engine(HFModel(policy.model.name_or_path), CONFIG)
    engine = start(policy)
    played = type(engine.llm.apply_model(lambda model: model)[0]).__name__
    assert played == ARCHITECTURES[architecture].vllm
    texts = []
    for version in (0, 1):
        if version:
            scatter(policy.model, version)
        engine.load_weights(full_tensors(policy.model), version)
        prompts, groups = written(engine)
        assert largest_gap(policy, prompts, groups) < 5e-5
        texts.append([c.token_ids.tolist() for group in groups for c in group])
    assert texts[0] != texts[1]
    # The trainer's own classes compute as before, and new models can be made of them.
    assert classes(policy.model) == before
    again = HFModel(policy.model.name_or_path).load(TEMPERATURE).model.eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, logits)


@pytest.mark.parametrize("architecture", PLAYED[:1])
def test_vllm_reads_the_export(architecture, policy, tmp_path):
    from vllm import LLM, SamplingParams

    from nft_lightning.training.export import save

    scatter(policy.model, 1)
    save(policy, tmp_path)
    llm = LLM(
        str(tmp_path), dtype="float32", enforce_eager=True, block_size=32, logprobs_mode="raw_logprobs"
    )
    prompt = prompts_of()[1]
    options = SamplingParams(temperature=0, max_tokens=4, logprobs=0)
    (answer,) = llm.generate([{"prompt_token_ids": list(prompt)}], options, use_tqdm=False)
    (out,) = answer.outputs
    ids = torch.tensor([[*prompt, *out.token_ids]])
    with torch.no_grad():
        own = policy.model(input_ids=ids).logits[0].log_softmax(-1)
    for i, token in enumerate(out.token_ids):
        assert abs(out.logprobs[i][token].logprob - float(own[len(prompt) - 1 + i, token])) < 5e-5
    llm.llm_engine.engine_core.shutdown()


@pytest.mark.skipif(torch.cuda.is_available(), reason="what CPUs cannot do")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen3_next", "runs Qwen3NextForCausalLM without a GPU in bfloat16 only"),
        ("mamba", "cannot run MambaForCausalLM without a GPU: it has no selective scan"),
        ("lfm2", "cannot run Lfm2ForCausalLM: vLLM 0.32 reads another form of its config"),
    ],
)
def test_what_vllm_cannot_run_is_refused_by_name(model_folder, name, words):
    with pytest.raises(UserError, match=words):
        check_engine(HFModel(str(model_folder(name))), CONFIG)


def test_bfloat16_is_a_way_out(model_folder):
    check_engine(HFModel(str(model_folder("qwen3_next"))), VLLMEngineConfig(dtype="bfloat16"))


def test_a_model_that_vllm_does_not_know_is_refused_by_name(tmp_path):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    config = GPTNeoConfig(
        vocab_size=8, hidden_size=8, num_layers=1, attention_types=[[["global"], 1]], num_heads=1
    )
    config.architectures = ["GPTNeoForCausalLM"]
    with pytest.raises(UserError, match=r"cannot run GPTNeoForCausalLM, which vLLM .* does not know"):
        CONFIG.check_model(config, torch.float32)
    assert GPTNeoForCausalLM(config).eval()
