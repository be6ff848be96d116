"""What travels in a weight sync: full tensors, one at a time, each exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from nft_lightning.engines.adapters import Rounding, checkpoint_parameters, merged, shape_of
from nft_lightning.engines.base import SyncError
from nft_lightning.errors import UserError

ENGINE_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def engine_dtype(given: str) -> torch.dtype | None:
    """Return what ``rollout.engine.dtype`` names, None for the parameters' own; UserError for another
    word.
    """
    if given not in ENGINE_DTYPES:
        known = ", ".join(ENGINE_DTYPES)
        raise UserError("rollout.engine.dtype", given, "is not a type", f"use one of {known}")
    return ENGINE_DTYPES[given]


def cast(named: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor in ``dtype``, as it is where that is None."""
    for name, tensor in named:
        yield name, tensor if dtype is None else tensor.to(dtype)


def full_tensors(model: nn.Module, rounding: Rounding | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield the model's parameters under their checkpoint names, gathered and LoRA merged one by one.

    Shards are gathered here, a collective call: every rank must iterate in step.

    Args:
        rounding: is told of every merged weight.
    """
    for name, parameter, layer in checkpoint_parameters(model):
        yield name, merged(parameter, layer, rounding)


class Manifest:
    """The names and shapes that one sync must deliver.

    Args:
        shapes: shape of every tensor by name, as the first policy had them.
    """

    def __init__(self, shapes: Mapping[str, torch.Size]) -> None:
        self.shapes = dict(shapes)

    @classmethod
    def of(cls, model: nn.Module) -> Manifest:
        """Return what ``model`` will deliver."""
        return cls({name: shape_of(p) for name, p, _ in checkpoint_parameters(model)})

    def checked(
        self, named: Iterable[tuple[str, Tensor]], version: int, tally: dict[str, int]
    ) -> Iterator[tuple[str, Tensor]]:
        """Pass tensors on; ``tally`` gets the bytes of each.

        Raises:
            SyncError: a tensor is unknown, misshapen, comes twice, or one is missing at the end.
        """
        for name, tensor in named:
            if name not in self.shapes:
                raise SyncError(f"weight sync {version}: the engine has no tensor {name!r}")
            if tensor.shape != self.shapes[name]:
                raise SyncError(
                    f"weight sync {version}: {name!r} is {tuple(tensor.shape)} where the engine has "
                    f"{tuple(self.shapes[name])}"
                )
            if name in tally:
                raise SyncError(f"weight sync {version}: {name!r} came twice")
            tally[name] = tensor.nbytes
            yield name, tensor
        if missing := self.shapes.keys() - tally.keys():
            raise SyncError(
                f"weight sync {version}: {len(missing)} of {len(self.shapes)} tensors missing, "
                f"{min(missing)!r} among them"
            )
