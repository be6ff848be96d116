"""vLLM that adds LoRA's product itself: after the first weight sync only the adapters travel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nft_lightning.engines.adapters_alone import (
    FIELD,
    MERGED,
    adapted_layers,
    adapter_shapes,
    adapter_tensors,
    base_tensors,
    matrices,
    name_of,
    room_for,
    shape_between,
    weight_of,
)
from nft_lightning.engines.base import SyncError
from nft_lightning.engines.checkpoint_format import CheckpointFormat
from nft_lightning.engines.vllm.engine import VLLMEngine, VLLMEngineConfig
from nft_lightning.engines.vllm.failures import one_sentence
from nft_lightning.engines.vllm.private_vllm import adapter_manager
from nft_lightning.engines.weight_sync import Manifest, cast
from nft_lightning.errors import UserError


class VLLMAdapterEngine(VLLMEngine):
    """A vLLM engine with room for one adapter, which each sync replaces.

    The frozen weights come with the first sync. While the trainer trains they are in the host's memory,
    since they would not come again.
    """

    sleep_level = 1

    def __init__(self, config: VLLMEngineConfig, model: nn.Module, tokenizer: Any) -> None:
        self.has_base, self.number = False, 0
        self.layers = layer_names(model, CheckpointFormat(model, text=True))
        shapes = adapter_shapes(model).items()
        self.shapes = {name: shape for name, shape in shapes if weight_of(name) in self.layers}
        super().__init__(config, model, tokenizer)
        self.base_shapes = self.manifest.shapes
        if strange := self.put({name: torch.zeros(shape) for name, shape in self.shapes.items()}):
            problem = f"does not fit the model: vLLM cannot adapt {strange[0]!r}"
            raise UserError(FIELD, config.adapters, problem, f"use {MERGED}")

    def options(self, model: nn.Module) -> dict[str, Any]:
        """See :meth:`VLLMEngine.options`."""
        ranks = [shape[0] for name, shape in self.shapes.items() if ".lora_A." in name]
        return {
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": room_for(max(ranks)),
            "lora_target_modules": sorted({name.rpartition(".")[2] for name in self.layers.values()}),
        }

    def stream(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Yield what the next sync must deliver: adapters, at first behind the frozen weights."""
        if not self.has_base:
            yield from base_tensors(model)
        for name, tensor in adapter_tensors(model):
            if name in self.shapes:
                yield name, tensor

    def take(self, named: Iterable[tuple[str, Tensor]], version: int) -> dict[str, int]:
        """See :meth:`VLLMEngine.take`."""
        tally: dict[str, int] = {}
        base = {} if self.has_base else self.base_shapes
        due = Manifest({**base, **self.shapes})
        found: dict[str, Tensor] = {}
        frozen = self.without_adapters(due.checked(cast(named, self.dtype), version, tally), found)
        if self.has_base:
            list(frozen)
        else:
            self.write(frozen, version)
            self.has_base = True
        with one_sentence(f"in weight sync {version}"):
            strange = self.put(found)
        if strange:
            raise SyncError(f"weight sync {version}: vLLM has no layer {strange[0]!r} to adapt")
        return tally

    def without_adapters(
        self, named: Iterable[tuple[str, Tensor]], found: dict[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """Pass the frozen weights on, and put copies of the adapters' tensors into ``found``."""
        for name, tensor in named:
            if name in self.shapes:
                found[name] = tensor.to("cpu", copy=True)
            else:
                yield name, tensor

    def put(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Make ``tensors`` the engine's adapter; the layers that vLLM knows nothing of."""
        from vllm.lora.request import LoRARequest

        self.number += 1
        renamed = {}
        for name, tensor in tensors.items():
            layer = self.layers[weight_of(name)]
            renamed[name_of(layer, name.split(".")[-2])] = tensor
        name = f"policy {self.number}"
        # The path is never read: the adapter is there before anybody asks for it.
        self.adapter = LoRARequest(name, self.number, lora_path=name)
        found: list[list[str]] = self.llm.collective_rpc(put_adapter, args=(self.number, renamed))
        return sorted({layer for strange in found for layer in strange})


def layer_names(model: nn.Module, format: CheckpointFormat) -> dict[str, str]:
    """Return the checkpoint's names of adapted layers, by their weights' names in the policy.

    Those that the engine does not hold are left out: the vision tower of a wrapper.

    Raises:
        UserError: the checkpoint has the weight in another shape, so that the adapter would not fit.
    """
    found = {}
    for name, layer in adapted_layers(model):
        a, b, _ = matrices(name, layer)
        shape = shape_between(a, b)
        if name not in format.renamed:
            continue
        made = format.converted({format.renamed[name]: torch.empty(shape, device="meta")})
        if [tensor.shape for tensor in made.values()] != [shape]:
            problem = f"does not fit the model: {name!r} is another tensor in its checkpoint"
            raise UserError(FIELD, "alone", problem, f"use {MERGED}")
        found[name] = next(iter(made)).removesuffix(".weight")
    return found


def put_adapter(worker: Any, number: int, tensors: Mapping[str, Tensor]) -> list[str]:
    """Replace the worker's adapter; runs inside it.

    Args:
        number: the new one's, never used before.
        tensors: A [r, in] and B [out, r] by their names in the checkpoint; B holds the scaling.

    Returns:
        The layers that nobody reads.
    """
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    keeper, manager = worker.model_runner.lora_manager, adapter_manager(worker)
    rank = max(len(tensor) for name, tensor in tensors.items() if ".lora_A." in name)
    mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
    adapter = LoRAModel.from_lora_tensors(
        number,
        dict(tensors),
        # Alpha is the rank: B holds the scaling already.
        PEFTHelper(r=rank, lora_alpha=rank, target_modules=[]),
        device="cpu",
        dtype=manager.lora_config.lora_dtype,
        weights_mapper=None if mapper is None else mapper.get_rename_mapper(),
    )
    parts = [part for name in manager.modules for part in manager.packed_modules.get(name, [])]
    strange = set(adapter.loras) - set(manager.modules) - set(parts)
    keeper.remove_all_adapters()
    manager.add_adapter(adapter)
    manager.activate_adapter(number)
    return sorted(strange)
