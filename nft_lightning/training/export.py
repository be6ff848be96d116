"""The trained model in the files that transformers and vLLM load."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from nft_lightning.distributed.shards import is_sharded
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.policy.lora import has_adapters, unwrapped


def whole_weights(model: Any, keep: bool) -> dict[str, Tensor] | None:
    """Return a model's state, shards gathered and adapters merged; None where it has neither."""
    if not is_sharded(model) and not has_adapters(model):
        return None
    return {name: t.cpu() for name, t in full_tensors(model) if keep}


def save(policy: Any, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """As ``save_pretrained`` does, with ``weights`` instead of the model's own."""
    model = policy.model
    plain = unwrapped(model)
    if hasattr(plain.config, "quantization_config"):
        config = copy.deepcopy(plain.config)
        del config.quantization_config
        # The weights are those that four bits stood for, so the model is written as one that has them.
        with torch.device("meta"):
            written = type(plain)(config)
        # End tokens are there, and a model made of a config knows its defaults only.
        written.generation_config = plain.generation_config
        plain = written
    try:
        plain.save_pretrained(folder, state_dict=weights)
        policy.tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
