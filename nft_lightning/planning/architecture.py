"""A model's shape and size from its config only: no weights, no network."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from nft_lightning.assets import TINY_POLICIES, tiny_policy_path
from nft_lightning.errors import UserError

CAUSAL = "causal_sdpa"
KNOWN_MODELS = Path(__file__).parent / "models.json"


@dataclass(frozen=True)
class Architecture:
    """A dense decoder by its transformers config.

    Attributes:
        name: as the run's config names it.
        config: the transformers config.
        parameters: all, a tied head counted once.
        layer_parameters: of one decoder layer.
        linear_parameters: weights of the linear layers of all decoder layers.
        linear_sides: inputs plus outputs of those layers, summed, for LoRA of rank 1.
        bias_free_linears: how many of them there are a layer.
    """

    name: str
    config: Any
    parameters: int
    layer_parameters: int
    linear_parameters: int
    linear_sides: int
    linears: int

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return int(self.config.num_hidden_layers)

    @property
    def head_parameters(self) -> int:
        """V times H, the weights of the product that gives the logits."""
        return int(self.config.vocab_size * self.config.hidden_size)

    @property
    def trunk_parameters(self) -> int:
        """Return all but the head; a head tied to the embedding is part of the trunk."""
        tied = bool(getattr(self.config, "tie_word_embeddings", False))
        return self.parameters - (0 if tied else self.head_parameters)

    @property
    def root_parameters(self) -> int:
        """Return those of no decoder layer: embedding, head, last norm."""
        return self.parameters - self.layers * self.layer_parameters

    @property
    def head_dim(self) -> int:
        """Return size of an attention head."""
        given = getattr(self.config, "head_dim", None)
        return int(given or self.config.hidden_size // self.config.num_attention_heads)

    @property
    def key_value_numbers(self) -> int:
        """Return numbers that the cache keeps for each token."""
        return 2 * self.layers * int(self.config.num_key_value_heads) * self.head_dim

    @property
    def context(self) -> int:
        """Longest prompt and completion in tokens."""
        return int(self.config.max_position_embeddings)

    def forward_flops(self, tokens: float, width: float, logits: float | None = None) -> float:
        """Return FLOPs of a forward pass over ``tokens`` in rows of ``width``, ``logits`` of them with
        logits.

        A product of [m, k] and [k, n] counts 2 m k n, and attention its full square, as
        ``torch.utils.flop_counter`` counts them.
        """
        attention = 4 * self.layers * self.config.num_attention_heads * self.head_dim * width
        logits = tokens if logits is None else logits
        return tokens * (2 * self.linear_parameters + attention) + logits * 2 * self.head_parameters

    def lora_parameters(self, rank: int) -> int:
        """Parameters of adapters on every linear layer of the decoder."""
        return rank * self.linear_sides


def folder_of(path: str) -> str:
    """Return where a shipped policy is; any other folder or hub name as it is."""
    return str(tiny_policy_path(path)) if path in TINY_POLICIES else path


def model_name(node: Any) -> str:
    """Return the folder or hub name that the ``model`` node of a run's config names.

    Raises:
        UserError: a model whose config only its package knows.
    """
    kind = str(node.get("_target_", "")).rpartition(".")[2]
    if kind == "TinyModel":
        return folder_of(node.get("name", "tiny"))
    if OmegaConf.is_missing(node, "path"):
        raise UserError(
            "model.path", "???", "has no value", "give one on the command line: model.path=VALUE"
        )
    if node.get("path") is None:
        raise UserError(
            "model", kind, "has no path to a config", "use model=hf model.path=FOLDER_OR_NAME"
        )
    return str(node.path)


@lru_cache(maxsize=8)
def architecture(name: str) -> Architecture:
    """Read a folder's config, a shipped one, or what the hub's cache holds.

    Raises:
        UserError: no config of that name on this machine, or not one of a dense decoder.
    """
    config = read_config(name)
    needed = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    )
    missing = [n for n in needed if getattr(config, n, None) is None]
    if missing or getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None):
        reason = f"lacks {', '.join(missing)}" if missing else "has experts"
        raise UserError(
            "model.path",
            name,
            f"is no dense decoder ({config.model_type} {reason})",
            "plan a model such as Qwen2 or Llama",
        )
    model = skeleton(config, config.num_hidden_layers, torch.device("meta"))
    layers: Any = model.get_decoder().layers
    linears = [m for m in layers.modules() if isinstance(m, nn.Linear)]
    return Architecture(
        name=name,
        config=config,
        parameters=sum(p.numel() for p in model.parameters()),
        layer_parameters=sum(p.numel() for p in layers[0].parameters()),
        linear_parameters=sum(m.weight.numel() for m in linears),
        linear_sides=sum(m.in_features + m.out_features for m in linears),
        linears=len(linears) // len(layers),
    )


def read_config(name: str) -> Any:
    """Return the transformers config of a folder, a shipped table, or the hub's cache."""
    from transformers import AutoConfig

    known = json.loads(KNOWN_MODELS.read_text())
    if name in known and not Path(name).exists():
        given = dict(known[name])
        return AutoConfig.for_model(given.pop("model_type"), **given)
    try:
        return AutoConfig.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "model.path",
            name,
            "has no config on this machine",
            f"give a folder with config.json, or one of {', '.join(known)}",
        ) from error


def causal_attention() -> str:
    """Return the name of SDPA without a mask tensor: to leave it out, transformers looks at the mask's
    data.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(CAUSAL, sdpa_attention_forward)
    AttentionMaskInterface.register(CAUSAL, lambda *_, **__: None)
    return CAUSAL


def skeleton(config: Any, layers: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """Return the model with its first ``layers`` decoder layers, its parameters on ``device``."""
    from transformers import AutoModelForCausalLM

    shorter = copy.deepcopy(config)
    shorter.num_hidden_layers = layers
    if getattr(shorter, "layer_types", None):
        shorter.layer_types = shorter.layer_types[:layers]
    with device:
        return AutoModelForCausalLM.from_config(
            shorter, dtype=dtype, attn_implementation=causal_attention()
        )
