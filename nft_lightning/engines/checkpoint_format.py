"""A policy's tensors as its checkpoint has them: other libraries know those names and shapes only.

transformers holds some models otherwise than their checkpoints: the experts of a layer are one tensor,
parts have other names. ``save_pretrained`` undoes that, and so does a weight sync to vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nft_lightning.engines.adapters import checkpoint_parameters, dtype_of, shape_of
from nft_lightning.engines.base import SyncError
from nft_lightning.policy.lora import unwrapped
from nft_lightning.policy.shape import text_architecture, text_config


class CheckpointFormat:
    """Renames, splits and joins tensors on their way to an engine, a few at a time.

    Args:
        text: of a wrapper of several modalities only the text model's tensors, as a checkpoint of it.

    Attributes:
        shapes: (name, shape, type) of every tensor that the engine gets, in order.
    """

    def __init__(self, model: Any, text: bool = False) -> None:
        self.model: Any = unwrapped(model)
        parameters = list(checkpoint_parameters(model))
        self.renamed = {name: name for name, _, _ in parameters}
        if text and (name := text_architecture(getattr(self.model, "config", None))):
            self.model, self.renamed = text_only(self.model, name, list(self.renamed))
        self.like = hasattr(self.model, "get_input_embeddings")
        sources = {
            self.renamed[name]: torch.empty(shape_of(p), dtype=dtype_of(p), device="meta")
            for name, p, _ in parameters
            if name in self.renamed
        }
        self.groups = self.grouped(sources)
        self.shapes: list[tuple[str, torch.Size, torch.dtype]] = []
        for group in dict.fromkeys(self.groups.values()):
            made = self.converted({name: sources[name] for name in group})
            self.shapes += [(name, tensor.shape, tensor.dtype) for name, tensor in made.items()]

    def grouped(self, sources: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
        """By each name all those that become tensors of the checkpoint together with it."""
        first: dict[str, str] = {}
        members: dict[str, list[str]] = {}
        for name, tensor in sources.items():
            target = min(self.converted({name: tensor}))
            leader = first.setdefault(target, name)
            members.setdefault(leader, []).append(name)
        return {name: tuple(group) for group in members.values() for name in group}

    def converted(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return one group in the checkpoint's names and shapes; SyncError where transformers cannot."""
        if not self.like:
            return tensors
        from transformers.core_model_loading import revert_weight_conversion

        try:
            found: dict[str, Tensor] = revert_weight_conversion(self.model, tensors)
        except Exception as error:
            name = type(self.model).__name__
            raise SyncError(
                f"weight sync: {min(tensors)!r} of {name} cannot be brought into its checkpoint's "
                f"format ({error}): use rollout=hf"
            ) from error
        return found

    def applied(self, named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield the stream in the checkpoint's names and shapes; a group continues when all of it is
        there.
        """
        waiting: dict[tuple[str, ...], dict[str, Tensor]] = {}
        for given, tensor in named:
            if given not in self.renamed:
                continue
            name = self.renamed[given]
            group = self.groups[name]
            held = waiting.setdefault(group, {})
            held[name] = tensor
            if len(held) == len(group):
                del waiting[group]
                yield from self.converted(in_order(held, group)).items()


def text_only(model: Any, architecture: str, names: Sequence[str]) -> tuple[Any, dict[str, str]]:
    """Return the text model without weights, and its names by those in the wrapper ``model``."""
    import transformers

    with torch.device("meta"):
        text: Any = getattr(transformers, architecture)(text_config(model.config))
    inside = prefix_of(model, model.get_decoder())
    outside = prefix_of(text, text.get_decoder())
    head = model.get_output_embeddings()
    renamed: dict[str, str] = {}
    for name in names:
        if name.startswith(inside):
            renamed[name] = outside + name.removeprefix(inside)
        elif name.startswith(prefix_of(model, head)):
            renamed[name] = prefix_of(text, text.get_output_embeddings()) + name.rpartition(".")[2]
    return text, renamed


def prefix_of(model: nn.Module, part: nn.Module) -> str:
    """Return the name of ``part`` in ``model``, with its dot."""
    found = next(name for name, module in model.named_modules() if module is part)
    return f"{found}." if found else ""


def in_order(held: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """``held`` sorted by ``names``."""
    return {name: held[name] for name in names}
