"""Lightning's Trainer, made from a config, and what it refuses in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import build
from nft_lightning.app.parts import Parts
from nft_lightning.app.trainer_keys import DEFAULTS
from nft_lightning.checkpoints.callback import Checkpoints
from nft_lightning.checkpoints.folder import CheckpointFolder
from nft_lightning.checkpoints.run_state import ExactResume
from nft_lightning.errors import UserError, first_line
from nft_lightning.policy.precision import HALVES, PureHalf
from nft_lightning.training.strategies.choice import strategy_of


@contextlib.contextmanager
def lightnings_refusals() -> Iterator[None]:
    """Turn what Lightning finds wrong with flags and callbacks, once it starts, into a UserError."""
    try:
        yield
    except L.fabric.utilities.exceptions.MisconfigurationException as error:
        reason = first_line(error)
        raise UserError(
            "trainer, callbacks",
            None,
            f"are refused by Lightning ({reason})",
            "see docs/lightning.md",
        ) from error


def check_monitors(trainer: L.Trainer, evaluation: dict[str, float]) -> None:
    """Raise UserError where a callback watches a metric of an evaluation that there is not.

    ``evaluation`` holds the metrics of the first one.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = getattr(callback, "monitor", None)
        known = name is None or name in evaluation or ("/" in name and not name.startswith("eval/"))
        if not known:
            raise UserError(
                f"callbacks.{type(callback).__name__}.monitor",
                name,
                "is not logged",
                f"use one of {', '.join(sorted(evaluation))}, or one of docs/metrics.md",
            )


def build_trainer(cfg: DictConfig, parts: Parts, state: ExactResume) -> L.Trainer:
    """Lightning's trainer with our loggers and callbacks."""
    options = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(options, dict)
    options.pop("threads", None)
    plugins: list[Any] = [CheckpointFolder()]
    if options.get("precision") in HALVES:
        plugins.append(PureHalf(options.pop("precision")))
    options["strategy"] = strategy_of(options.get("strategy", "auto"))
    # ``callbacks.progress=null`` leaves one out.
    loggers, callbacks = (
        [build(node, f"{group}.{name}") for name, node in (cfg[group] or {}).items() if node]
        for group in ("logger", "callbacks")
    )
    defaults = {
        **DEFAULTS,
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        "enable_checkpointing": any(isinstance(c, Checkpoints | Checkpoint) for c in callbacks),
    }
    try:
        return L.Trainer(
            **{**defaults, **options},
            default_root_dir=cfg.run_dir,
            check_val_every_n_epoch=parts.evaluation.every_epochs,
            logger=loggers or False,
            callbacks=[state, *callbacks],
            plugins=plugins,
        )
    except (
        TypeError,
        ValueError,
        RuntimeError,
        L.fabric.utilities.exceptions.MisconfigurationException,
    ) as error:
        reason = first_line(error)
        raise UserError(
            "trainer", options, f"is refused by Lightning ({reason})", "see conf/trainer"
        ) from error
