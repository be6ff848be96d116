"""Where a completion ends: the same token on every engine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from nft_lightning.engines.ends import StopWatch, end_ids, stop_options
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.policy.loading import HFModel
from nft_lightning.problems.prompts import PromptConfig
from nft_lightning.training.export import save
from nft_lightning.types import Sampling
from tests.engines.shared import ServedVLLM, served_engine
from tests.problems.made_tokenizer import made_tokenizer

LENGTH = 40
KEPT = []  # when an engine goes, vLLM ends the groups of the process's other one
PROBLEMS = ["What is 3 plus 4?", "What is 3?", "step by step"]


@torch.no_grad()
def greedy(model, prompt):
    """What the model writes if nothing ends it."""
    ids = list(prompt)
    for _ in range(LENGTH):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def prompts_of(policy):
    return [PromptConfig("plain").encode(policy.tokenizer, text) for text in PROBLEMS]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A random Llama with a BOS token and, in its generation config, two ends, one of which it writes.

    Its config names another end, as old folders do; where there is a generation config it is none.
    """
    folder = tmp_path_factory.mktemp("ends")
    tokenizer = made_tokenizer(bos=True)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    first = [PromptConfig("plain").encode(tokenizer, text) for text in PROBLEMS]
    written = [greedy(model, prompt) for prompt in first]
    model.config.eos_token_id = written[1][2]
    second = written[0][9]
    model.generation_config = GenerationConfig(eos_token_id=[tokenizer.eos_token_id, second])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    policy = HFModel(str(folder)).load(1.0)
    return SimpleNamespace(folder=folder, policy=policy, written=written, second=second)


def hf_engine(case):
    return HFEngine(case.policy.model, case.policy.tokenizer, max_rows=16)


def vllm_engine(case):
    pytest.importorskip("vllm")
    from nft_lightning.engines.vllm.engine import VLLMEngineConfig

    made = VLLMEngineConfig(max_num_seqs=16).build(case.policy.model, case.policy.tokenizer)
    KEPT.append(made)
    return made


def vllm_server_engine(case):
    pytest.importorskip("vllm")
    server = ServedVLLM(model=str(case.folder)).wait()
    engine = served_engine(case.policy, server.address)
    engine.server = server
    return engine


@pytest.fixture(
    scope="module",
    params=[
        hf_engine,
        pytest.param(vllm_engine, marks=pytest.mark.vllm),
        pytest.param(vllm_server_engine, marks=pytest.mark.vllm),
    ],
)
def engine(request, case):
    made = request.param(case)
    made.load_weights(case.policy.model.named_parameters(), 1)
    yield made
    if hasattr(made, "server"):
        made.server.kill()


def cut(case, prompt, ids, stop=(), also=()):
    """Ids up to the first end, found the long way: by decoding anew after each token."""
    tokenizer = case.policy.tokenizer
    before = tokenizer.decode(list(prompt), skip_special_tokens=True)
    for n in range(1, len(ids) + 1):
        text = tokenizer.decode([*prompt, *ids[:n]], skip_special_tokens=True)[len(before) :]
        ended = ids[n - 1] in (tokenizer.eos_token_id, case.second, *also)
        if ended or any(s in text.rstrip("\ufffd") for s in stop):
            return ids[:n], False
    return ids, True


def check(case, engine, **ends):
    prompts = prompts_of(case.policy)
    sampling = Sampling(
        0.0, LENGTH, stop=tuple(ends.get("stop", ())), stop_token_ids=tuple(ends.get("also", ()))
    )
    groups = engine.generate(prompts, sampling, [[1], [2], [3]])
    lengths = []
    for prompt, whole, (found,) in zip(prompts, case.written, groups, strict=True):
        ids, truncated = cut(case, prompt, whole, **ends)
        assert found.token_ids.tolist() == ids
        assert found.truncated == truncated
        assert found.text == case.policy.tokenizer.decode(ids, skip_special_tokens=True)
        assert len(found.logprobs) == len(ids)
        lengths.append(len(ids))
    return lengths


def test_the_bos_token_stands_in_front_once(case):
    bos = case.policy.tokenizer.bos_token_id
    assert all(p[0] == bos and bos not in p[1:] for p in prompts_of(case.policy))


def test_both_ids_of_the_generation_config_end_a_completion(case, engine):
    assert engine.ends == tuple(sorted({case.policy.tokenizer.eos_token_id, case.second}))
    lengths = check(case, engine)
    assert lengths[0] <= 10
    assert max(lengths) > 3  # the config's own id is no end


def test_ids_of_the_plan_end_one_too(case, engine):
    other = case.written[2][4]
    assert check(case, engine, also=[other])[2] <= 5
    assert check(case, engine)[2] > 5


def test_a_stop_string_that_spans_tokens(case, engine):
    tokenizer, ids = case.policy.tokenizer, case.written[2]
    pieces = [tokenizer.decode([i], skip_special_tokens=True) for i in ids]
    # From within one token into the next, both of them readable.
    at = next(n for n in range(5, LENGTH - 1) if all("\ufffd" not in p and p for p in pieces[n : n + 2]))
    stop = pieces[at][-1] + pieces[at + 1][0]
    lengths = check(case, engine, stop=["never written", stop])
    assert lengths[2] <= at + 2 < LENGTH
    watch = StopWatch(tokenizer, [stop], prompts_of(case.policy)[2])
    assert [watch.add(i) for i in ids[: lengths[2]]].index(True) == lengths[2] - 1


def test_samples_hold_nothing_behind_an_end(case, engine):
    prompts, stop = prompts_of(case.policy), ("3", "a", "st")
    ends = {case.policy.tokenizer.eos_token_id, case.second}
    sampling = Sampling(1.5, LENGTH, stop=stop)
    groups = engine.generate(prompts, sampling, [list(range(i, i + 12)) for i in (0, 20, 40)])
    stopped = 0
    for prompt, group in zip(prompts, groups, strict=True):
        for c in group:
            watch = StopWatch(case.policy.tokenizer, stop, prompt)
            over = [watch.add(i) or i in ends for i in c.token_ids.tolist()]
            assert not any(over[:-1])
            assert over[-1] != c.truncated
            assert c.text == case.policy.tokenizer.decode(c.token_ids, skip_special_tokens=True)
            stopped += any(s in c.text for s in stop)
    assert stopped > 3


@pytest.mark.parametrize("quantized", [False, True])
def test_an_export_names_the_same_ends(case, tmp_path, quantized):
    policy = HFModel(str(case.folder)).load(1.0)
    weights = {name: t.detach().clone() for name, t in policy.model.state_dict().items()}
    if quantized:
        policy.model.config.quantization_config = {"quant_method": "none"}
    save(policy, tmp_path, weights)
    again = HFModel(str(tmp_path)).load(1.0)
    assert end_ids(again.model, again.tokenizer) == end_ids(case.policy.model, case.policy.tokenizer)


def test_ends_are_a_union_within_the_vocabulary():
    model = SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=[5, 2, 400]),
        config=SimpleNamespace(vocab_size=300),
    )
    tokenizer = SimpleNamespace(eos_token_id=7)
    assert end_ids(model, tokenizer, [9, 5]) == (2, 5, 7, 9)
    model.generation_config.eos_token_id = 3
    assert end_ids(model, tokenizer) == (3, 7)
    assert end_ids(SimpleNamespace(), tokenizer) == (7,)


def test_what_vllm_is_told():
    plain = stop_options((2, 5), Sampling(1.0, 4, stop_token_ids=(3,)))
    assert plain == {"stop_token_ids": [2, 3, 5], "ignore_eos": True, "detokenize": False}
    texts = stop_options((2,), Sampling(1.0, 4, stop=("Q:",)))
    assert texts["detokenize"]
    assert texts["stop"] == ["Q:"]
    assert texts["include_stop_str_in_output"]


def test_characters_of_several_tokens_and_slow_tokenizers():
    tokenizer = made_tokenizer()
    ids = tokenizer.encode("so 3 \u2192 4\u20ac and", add_special_tokens=False)
    fast = StopWatch(tokenizer, ["\u2192 4\u20ac"], [])
    slow = StopWatch(tokenizer, ["\u2192 4\u20ac"], [])
    slow.backend = None
    at = [fast.add(i) for i in ids]
    assert at == [slow.add(i) for i in ids]
    assert tokenizer.decode(ids[: at.index(True) + 1]) == "so 3 \u2192 4\u20ac"


def test_tokens_that_are_no_text_break_nothing():
    tokenizer = made_tokenizer()
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        ids = torch.randint(0, len(tokenizer), (60,), generator=rng).tolist()
        watch = StopWatch(tokenizer, ["ab", "3"], ids[:3])
        for i in ids[3:]:
            watch.add(i)
