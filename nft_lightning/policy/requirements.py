"""What a policy's options need of the machine: libraries and a compiler, checked before it is loaded."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

from nft_lightning.errors import UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import HFModel


def check_library(field: str, given: Any, library: str, extra: str, otherwise: str = "") -> None:
    """Raise UserError where ``library``, which comes with ``extra``, is not installed."""
    if importlib.util.find_spec(library) is None:
        remedy = f"run: pip install 'nft-lightning[{extra}]'{otherwise}"
        raise UserError(field, given, f"needs {library}", remedy)


def check_policy(model: Any, config: PolicyConfig) -> None:
    """Raise UserError where peft, bitsandbytes or a compiler is asked for and missing."""
    if config.lora_rank:
        check_library("policy.lora_rank", config.lora_rank, "peft", "lora")
    if config.quantize != "none":
        check_library("policy.quantize", config.quantize, "bitsandbytes", "bitsandbytes")
        if not isinstance(model, HFModel):
            raise UserError("policy.quantize", config.quantize, "is for model=hf only", "use model=hf")
    if config.compile and not (shutil.which("g++") or shutil.which("clang++")):
        raise UserError("policy.compile", True, "finds no C++ compiler", "install g++")
