"""The model of a run: its export, or one of its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from nft_lightning.app.build import build
from nft_lightning.checkpoints.folder import checkpoints, read_manifest
from nft_lightning.checkpoints.restored import restored
from nft_lightning.errors import RunStoppedError, UserError
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import HFModel, Inspected, ModelConfig
from nft_lightning.policy.policy import Policy


@dataclass(frozen=True)
class CheckpointModel(ModelConfig):
    """The weights of ``folder`` in the model that the run was begun with."""

    base: ModelConfig
    folder: Path
    config: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        for name in ("dtype", "trust_remote_code", "attention"):
            object.__setattr__(self, name, getattr(self.base, name))

    def inspect(self) -> Inspected:
        """Tokenizer and context of the run's model."""
        return self.base.inspect()

    def load(self, temperature: float) -> Policy:
        """Return the policy; raises UserError where the checkpoint is damaged."""
        try:
            return restored(self.base, self.config, self.folder, temperature)
        except RunStoppedError as error:
            damaged = f"is damaged ({error})"
            raise UserError("checkpoint", self.folder.name, damaged, "choose another") from error


def trained_model(run: Path, checkpoint: str | None) -> ModelConfig:
    """Return the model of a run folder; ``checkpoint`` is best, last or a folder's name, None the
    export.

    Raises:
        UserError: there is no such thing.
    """
    if checkpoint is None:
        if not (run / "export" / "config.json").exists():
            remedy = "give the folder of a finished run, or checkpoint=last"
            raise UserError("run", str(run), "holds no export/", remedy)
        return HFModel(str(run / "export"))
    folder = run / "checkpoints" / checkpoint
    if not folder.is_dir():
        named = ", ".join(["best", "last", *(p.name for p in checkpoints(run / "checkpoints"))])
        raise UserError("checkpoint", checkpoint, f"is no checkpoint of {run}", f"use one of {named}")
    try:
        read_manifest(folder)
    except RunStoppedError as error:
        raise UserError("checkpoint", checkpoint, f"is damaged ({error})", "choose another") from error
    config = OmegaConf.load(run / "config.yaml")
    own = build(config.policy, "policy") if "policy" in config else PolicyConfig()
    return CheckpointModel(build(config.model, "model"), folder, own)
