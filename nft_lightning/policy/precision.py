"""Half precision: what is stored in it without autocast, and what cannot be computed without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.plugins import Precision
from torch import nn

from nft_lightning.policy.private_transformers import flash

HALVES = {"bf16-true": torch.bfloat16, "16-true": torch.float16}


class PureHalf(Precision):
    """``trainer.precision=bf16-true``: the policy is stored and computed in half precision.

    Lightning's own plugin would also make every new tensor and every number of a batch half: token
    weights, old log-probabilities and metrics, which stay in fp32 here.
    """

    def __init__(self, precision: Any) -> None:
        self.precision = precision


@contextmanager
def as_it_trains(model: Any, device: torch.device, precision: Precision) -> Iterator[None]:
    """Inside, a model of flash attention can be tried: it knows neither the host's memory nor fp32."""
    if not flash(model):
        yield
        return
    home = next(model.parameters()).device
    model.to(device)
    with precision.forward_context():
        yield
    model.to(home)


def cast_to_half(model: nn.Module, dtype: torch.dtype) -> None:
    """Store the parameters in ``dtype``; buffers such as rotary frequencies stay as they are."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
