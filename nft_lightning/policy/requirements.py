"""What a policy's options need of the machine: libraries and a compiler, checked before it is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from nft_lightning.common.libraries import check_library
from nft_lightning.errors import UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import ModelConfig


def check_policy(model: ModelConfig, config: PolicyConfig) -> None:
    """Raise UserError where peft, bitsandbytes or a compiler is asked for and missing."""
    if config.lora_rank:
        check_library("policy.lora_rank", config.lora_rank, "peft", "lora")
    if config.quantize != "none":
        check_library("policy.quantize", config.quantize, "bitsandbytes", "bitsandbytes")
        if not model.quantizes:
            raise UserError("policy.quantize", config.quantize, "is for model=hf only", "use model=hf")
    if config.compile and not (shutil.which("g++") or shutil.which("clang++")):
        raise UserError("policy.compile", True, "finds no C++ compiler", "install g++")
    if config.compile and " " in torch.__file__:
        raise UserError(
            "policy.compile",
            True,
            f"cannot link with torch in a path that holds spaces ({Path(torch.__file__).parent})",
            "make the environment in another folder, or leave it false",
        )
