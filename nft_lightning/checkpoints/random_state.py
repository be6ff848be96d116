"""The global random states: Python's, NumPy's, torch's on every device."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """Return all of them, as plain data."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    words = torch.tensor(np.asarray(keys, dtype=np.int64))
    return {
        "python": random.getstate(),
        "numpy": (
            str(name),
            words,
            int(position),
            int(has_gauss),
            float(cached),
        ),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Go back to what :func:`random_states` gave; GPUs only where there are as many as there were."""
    random.setstate(states["python"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
