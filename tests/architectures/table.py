"""One table of tiny random models: what is made, and what each is expected to support.

``docs/models.md`` holds this table, as ``python -m tests.architectures.page`` writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf

from tests.tiny_shape import tiny_shape

WORDS = 80
EOS = (2, 5)
PAD = 0
TEMPERATURE = 2.0
"""Flat enough that some completions end early."""
WINDOW = 12
"""Sliding windows are shorter than the rows."""


@dataclass(frozen=True)
class Architecture:
    """A model, and where it is used otherwise than the rest.

    Attributes:
        config: makes its transformers config.
        what: what sets it apart, for the page.
        attention: None is transformers' own choice.
        padding_free: rows end to end give the log-probabilities of padded ones; else it is refused.
        fused: ``policy.logprobs=fused`` fits its head.
        cached: ``rollout=hf`` keeps a cache of it; else it reads whole rows for each token.
        vllm: the class that vLLM plays, or why it does not, in the words of the page.
        plays: vLLM's CPU build computes it in fp32.
    """

    config: Callable[[], Any]
    what: str
    attention: str | None = None
    padding_free: bool = True
    fused: bool = True
    cached: bool = True
    vllm: str = ""
    plays: bool = True


def shape(**others: Any) -> dict[str, Any]:
    chosen = {"num_key_value_heads": 1, "max_position_embeddings": 128, **others}
    return {
        **tiny_shape(WORDS, 64, **chosen),
        "eos_token_id": list(EOS),
        "pad_token_id": PAD,
        "bos_token_id": 1,
    }


def gpt2() -> Any:
    return hf.GPT2Config(
        vocab_size=WORDS,
        n_embd=64,
        n_layer=2,
        n_head=2,
        n_positions=128,
        eos_token_id=EOS[0],
        bos_token_id=EOS[0],
    )


def gpt_neox() -> Any:
    given = shape()
    del given["num_key_value_heads"]
    return hf.GPTNeoXConfig(**given)


def gemma3() -> Any:
    text = shape(head_dim=32, sliding_window=WINDOW, query_pre_attn_scalar=32)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    return hf.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        eos_token_id=list(EOS),
        image_token_index=WORDS - 1,
        boi_token_index=WORDS - 2,
        eoi_token_index=WORDS - 3,
    )


def falcon_h1() -> Any:
    return hf.FalconH1Config(
        **shape(head_dim=32),
        mamba_d_ssm=64,
        mamba_n_heads=4,
        mamba_d_head=16,
        mamba_n_groups=1,
        mamba_d_state=16,
        mamba_chunk_size=16,
    )


def qwen3_next() -> Any:
    return hf.Qwen3NextConfig(
        **shape(head_dim=32),
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=48,
        shared_expert_intermediate_size=48,
        linear_num_value_heads=2,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        layer_types=["linear_attention", "full_attention"],
    )


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
TRANSFORMERS = "TransformersForCausalLM"
ARCHITECTURES = {
    "llama3": Architecture(
        lambda: hf.LlamaConfig(**shape(rope_theta=500_000.0)),
        "a token that begins, two that end",
        vllm="LlamaForCausalLM",
    ),
    "qwen2": Architecture(
        lambda: hf.Qwen2Config(**shape(tie_word_embeddings=True)), "tied head", vllm="Qwen2ForCausalLM"
    ),
    "qwen3": Architecture(
        lambda: hf.Qwen3Config(**shape(head_dim=32)), "normed queries and keys", vllm="Qwen3ForCausalLM"
    ),
    "qwen3_moe": Architecture(
        lambda: hf.Qwen3MoeConfig(**shape(head_dim=32), **EXPERTS),
        "experts, packed by transformers",
        vllm="Qwen3MoeForCausalLM",
    ),
    "mixtral": Architecture(
        lambda: hf.MixtralConfig(**shape(), num_local_experts=4, num_experts_per_tok=2),
        "experts, other names in the checkpoint",
        vllm="MixtralForCausalLM",
    ),
    "gemma2": Architecture(
        lambda: hf.Gemma2Config(
            **shape(head_dim=32),
            sliding_window=WINDOW,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
            query_pre_attn_scalar=32,
        ),
        "softcapped attention and logits, a sliding window in every other layer",
        attention="eager",
        vllm="Gemma2ForCausalLM",
    ),
    "gemma3": Architecture(gemma3, "a text model inside a multimodal wrapper", vllm="Gemma3ForCausalLM"),
    "mistral": Architecture(
        lambda: hf.MistralConfig(**shape(), sliding_window=WINDOW),
        "a sliding window in all layers",
        vllm="MistralForCausalLM",
    ),
    "phi3": Architecture(lambda: hf.Phi3Config(**shape()), "joined projections", vllm="Phi3ForCausalLM"),
    "gpt2": Architecture(gpt2, "learnt positions, tied head of another name", vllm="GPT2LMHeadModel"),
    "gpt_neox": Architecture(gpt_neox, "parallel layers, head of another name", vllm=TRANSFORMERS),
    "olmo2": Architecture(
        lambda: hf.Olmo2Config(**shape()), "norms behind the layers", vllm=TRANSFORMERS
    ),
    "falcon_h1": Architecture(
        falcon_h1, "attention and Mamba 2 side by side", padding_free=False, vllm="FalconH1ForCausalLM"
    ),
    "qwen3_next": Architecture(
        qwen3_next,
        "linear attention, full attention and experts",
        padding_free=False,
        vllm="refused: its CPU kernels know bfloat16 only",
        plays=False,
    ),
    "lfm2": Architecture(
        lambda: hf.Lfm2Config(**shape(), layer_types=["conv", "full_attention"]),
        "short convolutions and attention",
        padding_free=False,
        vllm="refused: vLLM 0.32 reads another form of its config",
        plays=False,
    ),
    "mamba": Architecture(
        lambda: hf.MambaConfig(
            vocab_size=WORDS,
            hidden_size=64,
            num_hidden_layers=2,
            state_size=8,
            eos_token_id=EOS[0],
            pad_token_id=PAD,
        ),
        "no attention",
        padding_free=False,
        cached=False,
        vllm="refused: no selective scan on CPUs",
        plays=False,
    ),
}


def made(name: str) -> Any:
    """Return the model with weights that make its distributions uneven, from a fixed seed."""
    chosen = ARCHITECTURES[name]
    options = {"attn_implementation": chosen.attention} if chosen.attention else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(chosen.config(), **options)
    scatter(model, 0)
    return model.eval()


@torch.no_grad()
def scatter(model: Any, seed: int) -> None:
    """Give every parameter that trains other values, drawn from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            parameter.copy_(0.15 * noise)
        elif name.endswith("bias"):
            parameter.copy_(0.2 * noise)
