"""Which models vLLM runs in the trainer's process, and as what; imported only where vLLM is."""

from __future__ import annotations

import copy
from typing import Any

import torch

from nft_lightning.engines.adapters_alone import ALONE, FIELD, MERGED
from nft_lightning.errors import UserError
from nft_lightning.policy.lora import unwrapped
from nft_lightning.policy.shape import text_architecture, text_config

# What vLLM 0.32 cannot run, and what it cannot run without a GPU.
FAULTY = {
    "Lfm2ForCausalLM": "reads another form of its config than transformers writes",
    "PhiForCausalLM": "loses the bias of its head in a weight update",
}
NOT_ON_CPUS = {
    "FalconMambaForCausalLM": "has no selective scan",
    "GptOssForCausalLM": "has no attention with sinks",
    "JambaForCausalLM": "has no selective scan",
    "MambaForCausalLM": "has no selective scan",
}
NEED_BFLOAT16_ON_CPUS = ("Qwen3NextForCausalLM", "Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM")

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""How configs of transformers say how many experts a layer has."""


def played_config(model: Any) -> Any:
    """Return the config of the model that vLLM runs: of the text only, and not quantized."""
    plain = unwrapped(model)
    whole, name = plain.config, text_architecture(plain.config)
    config = copy.deepcopy(text_config(whole) if name else whole)
    for part in (config, text_config(config)):
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    # save_pretrained names it, and vLLM takes a model without one for an embedder.
    config.architectures = [name] if name else whole.architectures or [type(plain).__name__]
    return config


def keeps_states(config: Any) -> bool:
    """Return whether vLLM keeps states for a model of this config: Mamba, linear attention."""
    from vllm.model_executor.models.registry import ModelRegistry

    known = ModelRegistry.models.get(config.architectures[0])
    if known is None:
        return False
    about = known.inspect_model_cls()
    return about.is_hybrid or about.has_inner_state


def check_known(config: Any, dtype: torch.dtype) -> None:
    """Raise UserError where vLLM has no code for the model, or none for this machine."""
    import transformers
    import vllm
    from vllm.model_executor.models.registry import ModelRegistry

    name = text_architecture(config) or (config.architectures or ["an unnamed model"])[0]
    remedy = "use rollout=hf"
    if name not in ModelRegistry.get_supported_archs():
        cls = getattr(transformers, name, None)
        if cls is None or not cls.is_backend_compatible():
            problem = f"cannot run {name}, which vLLM {vllm.__version__} does not know"
            raise UserError("rollout", "vllm", problem, remedy)
    if name in FAULTY:
        raise UserError("rollout", "vllm", f"cannot run {name}: vLLM 0.32 {FAULTY[name]}", remedy)
    if torch.cuda.is_available():
        return
    if name in NOT_ON_CPUS:
        problem = f"cannot run {name} without a GPU: it {NOT_ON_CPUS[name]}"
        raise UserError("rollout", "vllm", problem, remedy)
    if name in NEED_BFLOAT16_ON_CPUS and dtype != torch.bfloat16:
        problem = f"runs {name} without a GPU in bfloat16 only"
        raise UserError("rollout", "vllm", problem, f"{remedy}, or rollout.engine.dtype=bfloat16")


def check_adapted(config: Any, dtype: torch.dtype) -> None:
    """Raise UserError where vLLM adds no LoRA product to such a model, computed in ``dtype``."""
    from vllm.model_executor.models import supports_lora
    from vllm.model_executor.models.registry import ModelRegistry

    name = text_architecture(config) or config.architectures[0]
    # What vLLM has no code of its own for, it runs by a class that takes adapters.
    known = ModelRegistry.models.get(name)
    if known is not None and not supports_lora(known.load_model_cls()):
        problem = f"does not fit {name}, which vLLM does not adapt"
        raise UserError(FIELD, ALONE, problem, f"use {MERGED}")
    if not torch.cuda.is_available() and any(getattr(text_config(config), n, 0) for n in EXPERTS):
        problem = f"does not fit {name}: without a GPU, vLLM adapts no model with experts"
        raise UserError(FIELD, ALONE, problem, f"use {MERGED}")
    if torch.cuda.is_available() and dtype == torch.float32:
        remedy = f"set rollout.engine.dtype=bfloat16, or use {MERGED}"
        raise UserError(FIELD, ALONE, "is computed in 16 bits only on a GPU", remedy)
