"""Rows end to end must have the log-probabilities and gradients of padded rows."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from nft_lightning.batching.layout import Row, token_batch
from nft_lightning.batching.split import split_micro_batches, without_weight
from nft_lightning.errors import UserError
from nft_lightning.policy import packed, private_transformers
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.logprobs import Head
from nft_lightning.policy.policy import Policy
from nft_lightning.types import Completion, Places, Signal, places_of
from tests.tiny_shape import tiny_shape

SHAPE = tiny_shape(41, num_key_value_heads=1)
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SHAPE)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SHAPE)),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**SHAPE, head_dim=16, sliding_window=4)),
}


def policy_of(name, attention="sdpa", **options):
    cls, config = MODELS[name]
    torch.manual_seed(0)
    model = cls._from_config(config, attn_implementation=attention)
    policy = Policy(model, None, 0.8)
    for key, value in options.items():
        setattr(policy, key, value)
    return policy


def batch_of(lengths):
    torch.manual_seed(1)
    rows = []
    for i, (prompt, answer) in enumerate(lengths):
        ids = torch.randint(2, 41, (prompt + answer,)).tolist()
        completion = Completion(tuple(ids[prompt:]), "", (-1.0,) * answer, False, 0)
        rows.append(Row(tuple(ids[:prompt]), completion, 1.0, i, i))
    return token_batch(rows, Signal({}, torch.ones(len(lengths))), 0)


def found(policy, batch):
    policy.zero_grad()
    out = policy(batch, entropy_gradient=True, hidden=True)
    wave = torch.sin(torch.arange(batch.mask.numel()).view(batch.mask.shape))
    ((out.logprobs * wave) + 0.3 * out.entropy).sum().backward()
    return out, torch.cat([p.grad.flatten() for p in policy.parameters()])


LENGTHS = [(3, 7), (5, 1), (1, 12), (4, 4)]


@pytest.mark.parametrize("head", [None, Head(0.8)])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_end_to_end_is_as_padded(name, attention, head):
    if head and name == "gemma2":
        head = replace(head, softcap=MODELS[name][1].final_logit_softcapping)
    batch = batch_of(LENGTHS)
    rows, row_gradient = found(policy_of(name, attention, fused=head), batch)
    flat, flat_gradient = found(policy_of(name, attention, fused=head, padding_free=True), batch)
    assert (rows.logprobs - flat.logprobs).abs().max() < 1e-5
    assert (rows.entropy - flat.entropy).abs().max() < 1e-5
    assert (row_gradient - flat_gradient).norm() < 1e-5 * row_gradient.norm()
    there = batch.mask[..., None]
    assert ((rows.hidden - flat.hidden) * there).abs().max() < 1e-5
    assert not flat.logprobs[~batch.mask].any()


def by_edges(module, query, key, value, attention_mask, scaling, **given):
    """Attention as flash-attn's function of lengths has it: from nothing else than the edges."""
    edges, longest = given["cu_seq_lens_q"], given["max_length_q"]
    assert torch.equal(edges, given["cu_seq_lens_k"])
    assert edges.dtype == torch.int32
    assert type(longest) is int
    assert longest == int(edges.diff().max()) == given["max_length_k"]
    parts = []
    for a, b in pairwise(edges.tolist()):
        own = (query[:, :, a:b], key[:, :, a:b], value[:, :, a:b])
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(
                *own, is_causal=True, scale=scaling, enable_gqa=True
            )
        )
    return torch.cat(parts, 2).transpose(1, 2), None


@pytest.mark.parametrize("head", [None, Head(0.8)])
@pytest.mark.parametrize("lengths", [LENGTHS, [(2, 6), (2, 6)]])
def test_flash_attention_is_told_where_rows_begin(lengths, head, monkeypatch):
    """By a stand-in for the function that flash-attn would give, under another name."""
    AttentionInterface.register("by_edges", by_edges)
    AttentionMaskInterface.register("by_edges", lambda **_: None)
    monkeypatch.setattr(private_transformers, "FLASH", "by_edges")
    batch = batch_of(lengths)
    rows, row_gradient = found(policy_of("llama", fused=head), batch)
    flat, flat_gradient = found(policy_of("llama", "by_edges", fused=head, padding_free=True), batch)
    assert (rows.logprobs - flat.logprobs).abs().max() < 1e-5
    assert (row_gradient - flat_gradient).norm() < 1e-5 * row_gradient.norm()


def test_other_passes_of_transformers_still_look_for_rows():
    policy, batch = policy_of("llama", padding_free=True), batch_of(LENGTHS)
    view = packed.flat(batch.to("cpu"))

    def plain():
        with torch.no_grad():
            return policy.model(view.input_ids, position_ids=view.position_ids).logits

    before = plain()
    policy(batch)
    policy_of("llama")(batch)
    assert torch.equal(plain(), before)


def test_a_batch_that_was_moved_or_split_keeps_its_places_right():
    batch = batch_of(LENGTHS).to("cpu")
    assert batch.places is not None
    nothing = without_weight(batch)
    for part in (*split_micro_batches([batch]), nothing, nothing.to("cpu")):
        expected, made = places_of(part.mask, part.attention_mask), part.known_places
        for field in fields(Places):
            one, other = getattr(expected, field.name), getattr(made, field.name)
            assert torch.equal(torch.as_tensor(one), torch.as_tensor(other)), field.name


def test_what_the_model_sees_has_no_padding():
    policy, seen = policy_of("qwen2", padding_free=True), []
    policy.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    policy(batch_of(LENGTHS))
    assert seen == [(1, sum(map(sum, LENGTHS)))]


def test_a_micro_batch_without_rows_has_a_gradient_of_zero():
    policy = policy_of("qwen2", padding_free=True)
    _, gradient = found(policy, batch_of([]))
    assert not gradient.any()


def test_a_model_that_mixes_rows_is_refused():
    plan, policy = PolicyConfig(padding_free=True), policy_of("llama")
    assert plan.free_of_padding(policy)
    plain = policy.model.forward
    policy.model.forward = lambda *args, position_ids=None, **kwargs: plain(*args, **kwargs)
    with pytest.raises(UserError, match=r"policy.padding_free=True does not fit LlamaForCausalLM"):
        plan.free_of_padding(policy)
