"""LoRA: small trained matrices beside frozen weights, by peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nft_lightning.errors import UserError, first_line


def adapted(model: nn.Module, rank: int, alpha: int, targets: str) -> nn.Module:
    """``model`` with adapters that do nothing yet, and everything else frozen.

    Args:
        model: changed in place, and wrapped.
        rank, alpha: W + alpha / rank * B A (arXiv 2106.09685).
        targets: ``all-linear`` (all but the head), or names of layers with commas between them.

    Raises:
        UserError: no layer has such a name, or peft adapts experts, which no sync merges.
    """
    from peft import LoraConfig, get_peft_model

    named = targets if targets == "all-linear" else [t.strip() for t in targets.split(",")]
    others = "use all-linear" if isinstance(named, list) else f"name layers: {linear_names(model)}"
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules=named)
    try:
        # Drawn from the seed, but not out of the run's own stream.
        with torch.random.fork_rng(devices=[]):
            found: nn.Module = get_peft_model(model, config)
    except ValueError as error:
        reason = first_line(error)
        raise UserError(
            "policy.lora_targets", targets, f"does not fit the model ({reason})", others
        ) from error
    if experts := [name for name, module in found.named_modules() if hasattr(module, "parameter_name")]:
        problem = f"adapts {experts[0].removeprefix('base_model.model.')!r}, which is no linear layer"
        raise UserError("policy.lora_targets", targets, problem, f"name layers: {linear_names(found)}")
    return found


def has_adapters(model: nn.Module) -> bool:
    """Return whether the model is wrapped by peft."""
    return hasattr(model, "peft_config")


def unwrapped(model: Any) -> Any:
    """Return the model without peft's wrapper; its layers keep their adapters."""
    return model.get_base_model() if has_adapters(model) else model


def linear_names(model: nn.Module) -> str:
    """Return the last names of the decoder's linear layers, with commas between."""
    plain: Any = model
    head = plain.get_output_embeddings()
    heads = {id(head), id(getattr(head, "base_layer", None))}
    named = [(n.removesuffix(".base_layer"), m) for n, m in model.named_modules() if id(m) not in heads]
    found = dict.fromkeys(n.rpartition(".")[2] for n, m in named if isinstance(m, nn.Linear))
    # peft's own matrices are linear layers, too, and Mamba's last projection takes no adapter.
    return ",".join(n for n in found if n not in ("default", "out_proj"))


def outside_decoder(model: nn.Module) -> str | None:
    """Return the first layer with an adapter that is the head or no linear layer; None where none is."""
    plain: Any = model
    head = plain.get_output_embeddings()
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and (module is head or not len(module.lora_A)):
            return name.removeprefix("base_model.model.")
    return None


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, only the frozen weights compute."""
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "lora_A")]
    for layer in layers:
        # peft's own switch turns requires_grad off and on, which sharded parameters do not survive.
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def without_weights(config: Any, trust: bool) -> nn.Module:
    """Return the model of a transformers config on the meta device, where nothing takes memory."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    return model
