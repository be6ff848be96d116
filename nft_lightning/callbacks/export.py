"""A Hugging Face export that transformers and vLLM load."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from nft_lightning.records.writing import check_write_rule, written
from nft_lightning.training.export import save, whole_weights
from nft_lightning.training.module import PolicyModule


class HuggingFaceExport(L.Callback):
    """Writes ``export/`` in the run folder when training ends: model and tokenizer, safetensors."""

    def __init__(self, on_write_error: str = "continue") -> None:
        self.rule = check_write_rule(on_write_error, "callbacks.export.on_write_error")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the final weights."""
        assert isinstance(pl_module, PolicyModule)
        # Gathering a shard is a collective call: no rank may leave it out.
        weights = whole_weights(pl_module.policy.model, trainer.is_global_zero)
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "export"
            with written(path, self.rule):
                save(pl_module.policy, path, weights)
