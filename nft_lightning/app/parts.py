"""The parts of a run, built from its config and checked against each other before a model is loaded."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from nft_lightning.app.branch import checkpoint_of
from nft_lightning.app.build import part
from nft_lightning.app.earlier import check_renamed
from nft_lightning.app.trainer_keys import check_keys
from nft_lightning.distributed.processes import rank
from nft_lightning.errors import UserError
from nft_lightning.policy.loading import ModelConfig
from nft_lightning.rollouts.asked import check_asked
from nft_lightning.rollouts.replay import rollout_files
from nft_lightning.training.checks import check_objective

LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Parts:
    """Everything of a run that can be checked without a model.

    ``asked`` is what the check of the prompts found.
    """

    objective: Any
    model: ModelConfig
    source: Any
    rollout: Any
    engine: Any
    sync_check: Any
    verifier: Any
    batching: Any
    evaluation: Any
    optimizer: Any
    policy: Any
    prompt: Any
    asked: Any = None


def build_parts(cfg: DictConfig) -> Parts:
    """Build and cross-check. Raises UserError; loads no model."""
    check_renamed(cfg)
    parts = Parts(
        objective=part(cfg, "algorithm"),
        model=part(cfg, "model"),
        source=part(cfg, "problems.source"),
        rollout=part(cfg, "rollout"),
        engine=part(cfg, "rollout.engine"),
        sync_check=part(cfg, "rollout.sync_check"),
        verifier=part(cfg, "verifier"),
        batching=part(cfg, "batching"),
        evaluation=part(cfg, "evaluation"),
        optimizer=part(cfg, "optimizer"),
        policy=part(cfg, "policy"),
        prompt=part(cfg, "problems.prompt"),
    )
    check_objective(parts.objective, parts.source, parts.verifier, parts.rollout, parts.batching)
    check_trainer(cfg)
    if parts.rollout.path is not None:
        check_replayed(cfg, parts.rollout.path)
    asked = check_asked(
        parts.model.inspect(), parts.source, parts.prompt, parts.rollout, parts.evaluation, parts.engine
    )
    return replace(parts, asked=asked)


def check_trainer(cfg: DictConfig) -> None:
    """What Lightning would only find out later, or never."""
    check_keys(cfg.trainer)
    check_seed(cfg.seed)
    allowed = cfg.get("resume_allow")
    if allowed is not None and not isinstance(allowed, ListConfig):
        remedy = "give a list: resume_allow=[optimizer.learning_rate]"
        raise UserError("resume_allow", allowed, "is not a list of keys", remedy)


def check_replayed(cfg: DictConfig, run: str) -> None:
    """Raise UserError where the rollouts of ``run`` are missing, or answered other prompts."""
    rollout_files(run)
    saved = Path(run) / "config.yaml"
    if not saved.exists():
        raise UserError("rollout.path", run, "holds no config.yaml", "give the folder of a run")
    then = OmegaConf.load(saved)
    for key in ("problems.prompt", "rollout.temperature"):
        before, now = OmegaConf.select(then, key), OmegaConf.select(cfg, key)
        if before != now:
            raise UserError(
                "rollout.path", run, f"was written with {key}={before}, not {now}", f"give {key} alike"
            )


def check_seed(seed: Any) -> None:
    """Raise UserError for what NumPy takes for no seed."""
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        remedy = f"use a whole number from 0 to {LARGEST_SEED}"
        raise UserError("seed", seed, "is not a seed", remedy)


def check_run_dir(run_dir: str, resume: str | None = None) -> None:
    """Raise UserError where the run folder cannot be made or written, or holds another run."""
    if not isinstance(run_dir, str) or not run_dir:
        raise UserError("run_dir", run_dir, "is not a folder", "give run_dir=FOLDER")
    folder = Path(run_dir)
    # The first rank may have begun to write by the time the others look.
    begins = not resume or checkpoint_of(resume) is not None
    if begins and (folder / "config.yaml").exists() and rank() == 0:
        raise UserError(
            "run_dir",
            run_dir,
            "holds a run already",
            f"continue it with resume={run_dir}, or give another folder",
        )
    while not folder.exists():
        folder = folder.parent
    try:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file")
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            "run_dir", run_dir, f"cannot be written ({error.strerror or error})", "give another folder"
        ) from error
