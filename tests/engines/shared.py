"""One vLLM engine of the tiny policies' shape for the whole test process: starting one takes seconds."""

from __future__ import annotations

import functools

import pytest

from nft_lightning.policy.loading import TinyModel


@functools.cache
def shared_vllm_engine():
    pytest.importorskip("vllm")
    from nft_lightning.engines.vllm_engine import VLLMEngineConfig

    policy = TinyModel().load(1.0)
    return VLLMEngineConfig(max_num_seqs=32).build(policy.model, policy.tokenizer)
