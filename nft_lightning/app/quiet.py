"""Notices of libraries that say nothing about a run."""

from __future__ import annotations

import logging
import os
import warnings

import torch


def quiet_libraries() -> None:
    """Notices that say nothing about this run stay off the screen."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not torch.cuda.is_available():
        # To save a model transformers imports DeepSpeed where it is installed, which would wonder aloud.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name in ("lightning.pytorch", "lightning.fabric", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("lightning", "vllm"):
        warnings.filterwarnings("ignore", module=module)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
