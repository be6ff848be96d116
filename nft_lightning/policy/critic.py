"""The critic: a small head on the policy's last hidden states."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """[B, T, H] -> [B, T] in fp32: two layers that start at 0 and draw none of the run's random numbers.

    It is no part of the policy: not of its optimizer group, its gradient or its export.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.inner = nn.Linear(hidden_size, hidden_size)
            self.outer = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the expected return before each token."""
        # Autocast would leave three digits of values that are clipped at 0.2.
        with torch.autocast(hidden.device.type, enabled=False):
            inner = nn.functional.silu(self.inner(hidden.to(self.inner.weight.dtype)))
            value: Tensor = self.outer(inner)[..., 0]
        return value
