"""vLLM's side of a weight sync in one process: the official four phases, nothing sent anywhere.

Imported only where vLLM is: :mod:`nft_lightning.engines.vllm.start` registers the class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import Tensor, nn
from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)
from vllm.platforms import current_platform

BACKEND = "nft_lightning_in_process"


@dataclass
class NoInitInfo(WeightTransferInitInfo):
    """Nothing to agree on."""


@dataclass
class Stream(WeightTransferUpdateInfo):
    """``weights``: (name, tensor) pairs, taken one at a time; ``written``: gets the engine's names."""

    weights: Iterable[tuple[str, Tensor]] = ()
    written: set[str] = field(default_factory=set)


class LayerwiseTransfer(WeightTransferEngine[NoInitInfo, Any]):
    """Loads checkpoint-format tensors layer by layer; subclasses say where they come from."""

    init_info_cls = NoInitInfo

    def init_transfer_engine(self, init_info: NoInitInfo) -> None:
        """No connection is needed."""

    def start_weight_update(self) -> None:
        """Each layer is processed and copied in place as soon as it is complete."""
        begin_reload(self.model)

    def finish_weight_update(self) -> None:
        """Process what is left, and the tied head, which keeps a packed copy of its own on CPUs."""
        finalize_layerwise_reload(self.model, self.model_config)
        retie(self.model)

    def shutdown(self) -> None:
        """Nothing to release."""


class InProcessTransfer(LayerwiseTransfer):
    """From an iterator of the same process."""

    update_info_cls = Stream

    def receive_weights(self, update_info: Stream) -> None:
        """Feed the stream to the model's own loader."""
        update_info.written.update(self.model.load_weights(update_info.weights))


def begin_reload(model: nn.Module) -> None:
    """Let the model take checkpoint-format tensors again.

    On CPUs experts are packed when their kernel is made, and at no later update: it is made again.
    """
    initialize_layerwise_reload(model)
    if not current_platform.is_cpu():
        return
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def retie(model: nn.Module) -> None:
    """Refresh tied heads: on CPUs their packed weight would stay that of the old embedding."""
    shared = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, VocabParallelEmbedding) and not isinstance(module, ParallelLMHead)
    }
    for module in model.modules():
        if isinstance(module, ParallelLMHead) and id(module.weight) in shared:
            module.quant_method.process_weights_after_loading(module)


def parameter_names(model: nn.Module) -> list[str]:
    """Return what vLLM's loader must report as written; runs inside the worker."""
    return [name for name, _ in model.named_parameters()]


@cache
def register() -> None:
    """Make the backend known to vLLM, once a process."""
    WeightTransferEngineFactory.register_engine(BACKEND, InProcessTransfer)
