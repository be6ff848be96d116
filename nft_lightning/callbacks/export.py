"""A Hugging Face export that transformers and vLLM load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from safetensors import SafetensorError

from nft_lightning.logs import check_write_rule, written
from nft_lightning.module import PolicyModule


class HuggingFaceExport(L.Callback):
    """Writes ``export/`` in the run folder when training ends: model and tokenizer, safetensors."""

    def __init__(self, on_write_error: str = "continue") -> None:
        self.rule = check_write_rule(on_write_error, "callbacks.export.on_write_error")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the final weights."""
        assert isinstance(pl_module, PolicyModule)
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "export"
            with written(path, self.rule):
                save(pl_module.policy, path)


def save(policy: Any, folder: Path) -> None:
    """Model and tokenizer in the layout of ``save_pretrained``."""
    try:
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
