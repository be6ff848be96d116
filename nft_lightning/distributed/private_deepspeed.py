"""Private names of DeepSpeed's, which no other file touches."""

from __future__ import annotations

from typing import Any

from torch import Tensor

# What DeepSpeed would compile on CPUs, which needs a C++ compiler and a path without spaces.
COMPILED = "deepspeed_shm_comm"


def in_fragments(parameter: Any) -> bool:
    """Return whether ZeRO 2 cuts the gradient and the fp32 master of ``parameter``."""
    return hasattr(parameter, "_hp_mapping")


def fragment_of(parameter: Any) -> Any:
    """Return where this rank's fragment of a parameter of ZeRO 2 is; None where it has none."""
    return parameter._hp_mapping


def gradient_fragment(parameter: Any) -> Tensor | None:
    """Return this rank's fragment of the gradient under ZeRO 2; None where it has none."""
    mapping = fragment_of(parameter)
    return mapping and mapping.get_lp_grad_fragment(parameter._index_in_param_group)


def compile_nothing() -> None:
    """Let ranks on CPUs exchange tensors by torch's own backend."""
    import deepspeed

    deepspeed.ops.__compatible_ops__[COMPILED] = False
