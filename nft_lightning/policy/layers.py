"""A model's decoder layers, run again in the backward pass or compiled to need less memory or time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nft_lightning.errors import UserError


def decoder_layers(model: Any) -> list[nn.Module]:
    """Return the layers of a causal language model, from the first to the last.

    Raises:
        UserError: the model has no list of layers.
    """
    modules = model.get_decoder().modules()
    lists = [list(m) for m in modules if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise UserError(
            "model", type(model).__name__, "has no list of decoder layers", "use a decoder-only model"
        )
    return max(lists, key=len)


def recompute(layers: list[nn.Module]) -> None:
    """Keep only each layer's input; the backward pass runs the layer again.

    Where no gradient is wanted, as in generation, nothing changes. The models know such an option of
    their own, but only for training mode, where their dropout acts.
    """
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def compiled(layers: list[nn.Module]) -> None:
    """Compile each layer for any number of rows and tokens."""
    for layer in layers:
        layer.forward = Compiled(layer.forward)


class Compiled:
    """A compiled forward pass; generation, whose cache grows at every token, goes the plain way."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain, self.fast = plain, torch.compile(plain, dynamic=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`torch.nn.Module`."""
        cached = kwargs.get("past_key_values") is not None
        return (self.plain if cached else self.fast)(*args, **kwargs)
