"""How vLLM servers are reached, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.engines.adapters_alone import ALONE, FIELD, MERGED, check_way
from nft_lightning.engines.base import (
    Engine,
    EngineConfig,
)
from nft_lightning.engines.vllm_server.http import Server
from nft_lightning.engines.weight_sync import engine_dtype
from nft_lightning.errors import UserError


@dataclass(frozen=True)
class VLLMServerConfig(EngineConfig):
    """``rollout=vllm_server``: servers that ``nft-serve`` started.

    Attributes:
        addresses: where they listen; each holds a whole copy of the weights.
        api_key_variable: the environment variable with the servers' key, if they have one.
        request_timeout_seconds: the limit of every single request, a weight update's included.
        max_attempts: tries of one request before the run stops.
        backoff_seconds: a server's rest after a fault; it doubles with each further one in a row.
        requests_per_server: requests that one server has at a time.
        wait_for_server_seconds: how long to wait where no server is left, for one to come back.
        transfer_folder: a folder that trainer and servers see, for servers with ``--transfer files``;
            None is shared memory.
        transfer_chunk_mib: how much of the weights is there at a time.
        max_model_len: the servers' ``--max-model-len``, where it is below the model's context.
        trainer_address: where servers with ``--transfer nccl`` reach this host.
        dtype: float32 or bfloat16, the servers' ``--dtype``, which weights are sent in; auto sends the
            parameters as they are, to servers of any type.
        adapters: ``merged``: a policy with LoRA is sent as the weights that it amounts to.
    """

    addresses: list[str] = field(default_factory=lambda: ["http://127.0.0.1:8000"])
    api_key_variable: str = "VLLM_API_KEY"
    request_timeout_seconds: float = bounded(600.0, above=0, use="600")
    max_attempts: int = bounded(4, least=1)
    backoff_seconds: float = bounded(0.5, least=0)
    requests_per_server: int = bounded(64, least=1)
    wait_for_server_seconds: float = bounded(300.0, least=0)
    transfer_folder: str | None = None
    transfer_chunk_mib: int = bounded(256, least=1)
    trainer_address: str = "127.0.0.1"
    dtype: str = "auto"
    max_model_len: int | None = None
    adapters: str = MERGED
    planned_as: ClassVar[str | None] = "vllm_server"

    def __post_init__(self) -> None:
        if not self.addresses:
            raise UserError(
                "rollout.engine.addresses",
                [],
                "names no server",
                "give one like [http://127.0.0.1:8000]",
            )
        engine_dtype(self.dtype)
        check_way(self.adapters)
        if self.adapters == ALONE:
            remedy = f"use {MERGED}, or rollout=vllm"
            raise UserError(FIELD, ALONE, "is not built for servers", remedy)
        twice = [a for i, a in enumerate(self.addresses) if a in self.addresses[:i]]
        if twice:
            raise UserError("rollout.engine.addresses", twice[0], "is given twice", "give it once")
        for address in self.addresses:
            Server(address, None)
        check_bounds(self, "rollout.engine")
        if self.transfer_folder is not None and not os.path.isdir(self.transfer_folder):
            raise UserError(
                "rollout.engine.transfer_folder",
                self.transfer_folder,
                "is not a folder",
                "give one that trainer and servers see, or null for shared memory",
            )

    def context_tokens(self) -> int | None:
        """Return the longest prompt and completion; None is the model's context."""
        return self.max_model_len

    def build(self, model: nn.Module, tokenizer: Any) -> Engine:
        """Return the engine; servers are first asked at the first sync, so they may still be
        starting.
        """
        from nft_lightning.engines.vllm_server.engine import VLLMServerEngine

        return VLLMServerEngine(self, model, tokenizer)
