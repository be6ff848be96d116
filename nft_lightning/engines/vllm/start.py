"""How vLLM is started in the trainer's process."""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nft_lightning.distributed.join import torchrun_variables
from nft_lightning.distributed.ranks import broadcast_from_rank0, several
from nft_lightning.engines.vllm.failures import one_sentence

if TYPE_CHECKING:
    from nft_lightning.engines.vllm.engine import VLLMEngineConfig

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CONFIGURE_LOGGING": "0",
}


def prepare(config: VLLMEngineConfig) -> None:
    """Set what vLLM reads when it is imported.

    Without a GPU its sampler runs as it is written: to compile it takes a C++ compiler and a while, and
    TORCH_COMPILE_DISABLE would come too late, because torch reads it when Lightning is imported.
    """
    settings = {**SETTINGS, "VLLM_CPU_KVCACHE_SPACE": str(config.kv_cache_gib)}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if not torch.cuda.is_available():
        from vllm.platforms import current_platform

        current_platform.simple_compile_backend = "eager"
    # Its warm-up looks for a tokenizer, which stays with the trainer, and reports that at length.
    logging.getLogger("vllm").setLevel(logging.CRITICAL)


def start(config: VLLMEngineConfig, model: Any, dtype: torch.dtype, others: dict[str, Any]) -> Any:
    """Return a vLLM ``LLM`` of the model's shape, with dummy weights; ``others`` are further options of
    it.
    """
    prepare(config)
    on_gpu = torch.cuda.is_available()
    from vllm import LLM
    from vllm.config import WeightTransferConfig

    from nft_lightning.engines.vllm.classes import own_classes
    from nft_lightning.engines.vllm.models import keeps_states, played_config
    from nft_lightning.engines.vllm.private_vllm import forget_rotary_tables, own_shared_memory
    from nft_lightning.engines.vllm.transfer import BACKEND, register

    register()
    forget_rotary_tables()
    played = played_config(model)
    if config.head_dtype == "float32":
        played.head_dtype = "float32"
    options: dict[str, Any] = {
        "tensor_parallel_size": config.tensor_parallel_size,
        "max_num_seqs": config.max_num_seqs,
        "max_model_len": config.max_model_len,
        "enforce_eager": config.enforce_eager or not on_gpu,
        # Its kernels for CPUs keep a prompt's last state only.
        "enable_prefix_caching": on_gpu or not keeps_states(played),
        **others,
    }
    if on_gpu:
        options["gpu_memory_utilization"] = config.gpu_memory_utilization
        options["enable_sleep_mode"] = config.sleep
    else:
        options["block_size"] = 32
    if several():
        # vLLM then uses the group that the ranks have joined, instead of one of its own.
        options["distributed_executor_backend"] = "external_launcher"
    with tempfile.TemporaryDirectory() as folder, torchrun_variables():
        played.save_pretrained(Path(folder))
        token = broadcast_from_rank0(lambda: uuid.uuid4().hex)
        with one_sentence("at its start"), own_classes(), own_shared_memory(token):
            llm = LLM(
                model=folder,
                dtype=str(dtype).removeprefix("torch."),
                load_format="dummy",
                skip_tokenizer_init=True,
                logprobs_mode="processed_logprobs",
                weight_transfer_config=WeightTransferConfig(backend=BACKEND),
                seed=0,
                **options,
            )
    llm.init_weight_transfer_engine({"init_info": {}})
    return llm
