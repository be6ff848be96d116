"""From the checked parts of a run to the two objects that Lightning trains with."""

from __future__ import annotations

import lightning as L
import torch

from nft_lightning.app.parts import Parts
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.precision import HALVES
from nft_lightning.policy.prepare import prepared
from nft_lightning.training.datamodule import RolloutDataModule
from nft_lightning.training.module import PolicyModule


def assemble(parts: Parts, trainer: L.Trainer, seed: int) -> tuple[PolicyModule, RolloutDataModule]:
    """Return module and data module around the loaded policy; the engine is built, too."""
    policy = loaded(parts, trainer)
    data = RolloutDataModule(
        policy,
        parts.source,
        parts.verifier,
        rollout=parts.rollout,
        prompt=parts.prompt,
        engine=parts.engine,
        batching=parts.batching,
        evaluation=parts.evaluation,
        sync_check=parts.sync_check,
        seed=seed,
        asked=parts.asked,
    )
    data.connect(trainer)
    return PolicyModule(policy, parts.objective, optimizer=parts.optimizer), data


def loaded(parts: Parts, trainer: L.Trainer) -> Policy:
    """Return the policy, stored as the trainer's precision says."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        # Quantized weights are loaded on the current device, which would be the first on every rank.
        torch.cuda.set_device(device)
    half = HALVES.get(trainer.precision)
    return prepared(parts.model, parts.policy, parts.rollout.temperature, half)
