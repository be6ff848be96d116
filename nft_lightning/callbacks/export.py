"""A Hugging Face export that transformers and vLLM load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from nft_lightning.module import PolicyModule


class HuggingFaceExport(L.Callback):
    """Writes ``export/`` in the run folder when training ends: model and tokenizer, safetensors."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the final weights."""
        assert isinstance(pl_module, PolicyModule)
        if trainer.is_global_zero:
            save(pl_module.policy, Path(trainer.default_root_dir) / "export")


def save(policy: Any, folder: Path) -> None:
    """Model and tokenizer in the layout of ``save_pretrained``."""
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
