"""How the policy is held in memory and computed: the ``policy`` node of the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError
from nft_lightning.policy.head import WAYS, head_of
from nft_lightning.policy.layers import compiled, decoder_layers, recompute
from nft_lightning.policy.logprobs import Head
from nft_lightning.policy.lora import adapted
from nft_lightning.policy.policy import Policy, keeps_rows_apart

QUANTIZATIONS = ("none", "4bit")


@dataclass(frozen=True)
class PolicyConfig:
    """What trains, in which memory.

    Attributes:
        logprobs: ``plain`` by way of all logits; ``fused`` in tiles that are made again in the backward
            pass, for a memory that does not grow with the vocabulary; ``auto`` is fused from a
            vocabulary of 32,768 on, where the model allows it.
        padding_free: rows go through the model end to end, without padding; with flash attention
            (``model.attention``), whose cost is then that of the tokens. Otherwise a mask keeps the rows
            apart, at the cost of attention over the whole micro-batch.
        gradient_checkpointing: keep only each layer's input and run the layer again in the backward
            pass; the gradient is the same.
        compile: torch.compile of each decoder layer in training; generation is not compiled.
        lora_rank: rank of LoRA's matrices (peft), which alone then train; 0 trains all weights.
        lora_alpha: they count alpha / rank times.
        lora_targets: ``all-linear``, which leaves the head out, or layers' names with commas between.
        quantize: ``4bit`` keeps the frozen weights in NF4 (bitsandbytes; QLoRA); ``none``.
    """

    logprobs: str = bounded("auto", choices=WAYS)
    padding_free: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False
    lora_rank: int = bounded(0, least=0, use="16, or 0 for none")
    lora_alpha: int = bounded(32, least=1, use="32")
    lora_targets: str = "all-linear"
    quantize: str = bounded("none", choices=QUANTIZATIONS)

    def __post_init__(self) -> None:
        check_bounds(self, "policy")
        if not self.lora_rank:
            for name in ("lora_alpha", "lora_targets"):
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise UserError(
                        f"policy.{name}", getattr(self, name), "has no effect", "set policy.lora_rank=16"
                    )
            if self.quantize != "none":
                raise UserError(
                    "policy.quantize",
                    self.quantize,
                    "leaves nothing that could train",
                    "set policy.lora_rank=16",
                )

    def load_options(self) -> dict[str, Any]:
        """Return how the model loads its weights, where not as they are."""
        if self.quantize == "none":
            return {}
        from transformers import BitsAndBytesConfig

        four_bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        return {"quantization": four_bits}

    def with_adapters(self, model: nn.Module) -> nn.Module:
        """Return the model that trains; raises UserError where ``lora_targets`` does not fit it."""
        if not self.lora_rank:
            return model
        return adapted(model, self.lora_rank, self.lora_alpha, self.lora_targets)

    def save_memory(self, model: nn.Module) -> None:
        """Compile and recompute its layers, in place, as asked for."""
        if self.compile:
            compiled(decoder_layers(model))
        if self.gradient_checkpointing:
            recompute(decoder_layers(model))

    def free_of_padding(self, policy: Policy) -> bool:
        """Return whether rows go end to end; UserError where the model mixes them: it is tried."""
        if not self.padding_free:
            return False
        if keeps_rows_apart(policy):
            return True
        raise UserError(
            "policy.padding_free",
            True,
            f"does not fit {type(policy.model).__name__}, which lets rows end to end see each other",
            "use false",
        )

    def fused(self, model: Any, temperature: float) -> Head | None:
        """See :func:`nft_lightning.policy.head.head_of`."""
        return head_of(model, temperature, self.logprobs)
