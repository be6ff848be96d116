"""A cold start: supervised fine-tuning on worked answers, made once for all runs that begin from it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import build, option
from nft_lightning.app.parts import Parts
from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.common.files import write_text_whole
from nft_lightning.common.text import accuracy_name
from nft_lightning.distributed.children import end
from nft_lightning.distributed.preemption import Preempted, PreemptionHandler
from nft_lightning.distributed.processes import local_rank
from nft_lightning.objectives import SFT
from nft_lightning.records.saved_config import DECIDES, MAY_CHANGE, leaves, within, without_secrets
from nft_lightning.training.checks import check_objective

MODULE = "nft_lightning.cli.cold_start"
ASKED = "asked.yaml"
RECORD = "cold_start.json"
POLL_SECONDS = 1.0
FIRST_SEED = 1_000_000
"""Far from the seeds of runs: a run's first problems must not be those that are learned already."""

GRACE_SECONDS = 60.0
TRAINER_KEYS = ("accelerator", "devices", "strategy", "precision", "threads", "deterministic")
"""What a cold start takes over from the run's trainer: where it computes, and in which precision."""

LAUNCHERS = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "SLURM_")
"""How variables begin by which a launcher numbers its ranks."""

NOT_LEARNED = ("evaluation", "verifier", "rollout.temperature", "rollout.max_generation_rounds")
"""Keys that do not change the weights of a cold start; two runs that differ there share one."""


@dataclass(frozen=True)
class ColdStartConfig:
    """``cold_start=worked_answers``: what is learned before the first rollout.

    Attributes:
        examples: training problems whose worked answers are learned.
        passes: how often each of them is.
        updates_per_pass: optimizer steps that share out one pass.
        learning_rate: of all weights, whatever the run itself trains.
        seed: which problems, and in which order; the run's own seed has no part in it.
        folder: where cold starts are kept, each in a folder named after what it is made of.
    """

    examples: int = bounded(64, least=1)
    passes: int = bounded(2, least=1)
    updates_per_pass: int = bounded(4, least=1)
    learning_rate: float = bounded(2e-5, above=0, finite=True, use="2.0e-5")
    seed: int = bounded(0, least=0)
    folder: str = "runs/cold_starts"

    def __post_init__(self) -> None:
        check_bounds(self, "cold_start")


def training(cfg: DictConfig) -> DictConfig:
    """Return the config of the run that makes the cold start of ``cfg``, in its own folder."""
    asked: ColdStartConfig = build(cfg.cold_start, "cold_start")
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    made: Any = OmegaConf.create({k: v for k, v in plain.items() if k != "hydra"})
    made.cold_start, made.resume, made.resume_allow = None, None, []
    made.algorithm = option("algorithm", "sft")
    made.seed = FIRST_SEED + asked.seed
    made.rollout = option("rollout", "hf")
    made.rollout.max_new_tokens = cfg.rollout.max_new_tokens
    made.rollout.problems_per_rollout = asked.examples
    made.rollout.same_problems = True
    made.batching.updates_per_rollout = asked.updates_per_pass
    made.optimizer.update({"learning_rate": asked.learning_rate, "schedule": "constant"})
    made.optimizer.update({"custom": None, "warmup_updates": 0})
    made.policy.update({"lora_rank": 0, "quantize": "none"})
    made.evaluation.every_epochs = asked.passes
    made.trainer = {k: cfg.trainer[k] for k in TRAINER_KEYS if k in cfg.trainer}
    made.trainer.max_epochs = asked.passes
    made.logger, made.callbacks = option("logger", "csv"), option("callbacks", "default")
    made.run_dir = str(Path(asked.folder) / name_of(made))
    return made


def name_of(made: DictConfig) -> str:
    """Return twelve characters that are equal for cold starts with equal weights."""
    values = {
        name: value
        for name, value in leaves(without_secrets(made))
        if not within(name, NOT_LEARNED) and (not within(name, MAY_CHANGE) or within(name, DECIDES))
    }
    values["passes"] = made.trainer.max_epochs
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]


def begun_from(cfg: DictConfig, folder: Path) -> DictConfig:
    """Return ``cfg`` with the cold start in ``folder`` as its model."""
    found = cfg.copy()
    OmegaConf.set_struct(found, False)
    given = {k: cfg.model[k] for k in ("dtype", "trust_remote_code", "attention") if k in cfg.model}
    found.model = OmegaConf.merge(option("model", "hf"), given, {"path": str(folder / "export")})
    return found


def check_cold_start(cfg: DictConfig, parts: Parts) -> None:
    """Raise UserError where there is nothing that a cold start could learn from."""
    build(cfg.cold_start, "cold_start")
    check_objective(SFT(), parts.source, parts.verifier, parts.rollout, parts.batching)


def with_cold_start(cfg: DictConfig) -> DictConfig:
    """Return ``cfg`` with its cold start as the model; make it where nobody did before.

    One process per host makes it, in a process of its own, and the others wait. A run that is resumed
    keeps the one that it was begun with.

    Raises:
        SystemExit: it was not finished; the same command continues it.
    """
    if (kept := kept_folder(cfg)) is not None:
        return begun_from(cfg, kept)
    made = training(cfg)
    folder = Path(made.run_dir)
    if not finished(folder):
        if local_rank():
            wait_for(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if not finished(folder):
                    make(made, folder)
    return begun_from(cfg, folder)


def kept_folder(cfg: DictConfig) -> Path | None:
    """Return the cold start that a run to be resumed was begun with, if it is still there."""
    saved = Path(str(cfg.run_dir)) / "config.yaml"
    if cfg.resume is None or not saved.is_file():
        return None
    path = OmegaConf.select(OmegaConf.load(saved), "model.path")
    folder = Path(str(path)).parent
    return folder if path and finished(folder) else None


def finished(folder: Path) -> bool:
    """Return whether the cold start of this folder is whole."""
    return (folder / "summary.json").is_file() and (folder / "export" / "config.json").is_file()


def wait_for(folder: Path) -> None:
    """Return when another rank has made the cold start; the launcher ends all where it fails."""
    while not finished(folder):
        time.sleep(POLL_SECONDS)


def make(made: DictConfig, folder: Path) -> None:
    """Train in a process of its own, which gives all its memory back, and continue one that was left."""
    made.resume = "auto"
    write_text_whole(folder / ASKED, OmegaConf.to_yaml(made))
    sys.stdout.write(f"Cold start: {made.rollout.problems_per_rollout} worked answers, into {folder}\n")
    sys.stdout.flush()
    signals = PreemptionHandler()
    signals.install()
    # It starts ranks of its own, whatever started this process.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS)}
    process = subprocess.Popen([sys.executable, "-m", MODULE, str(folder / ASKED)], env=environment)
    try:
        with signals.leaving():
            code = process.wait()
    except Preempted as signal:
        code = signal.exit_code
    finally:
        end(process, GRACE_SECONDS)
        signals.restore()
    if code:
        sys.exit(code)


def record(cfg: DictConfig, run_dir: Path) -> None:
    """Write ``cold_start.json`` into the run folder: which cold start, and what it reached."""
    folder = Path(cfg.model.path).parent
    summary = json.loads((folder / "summary.json").read_text())
    name = accuracy_name(summary["after"])
    found = {
        "folder": str(folder),
        "metric": name,
        "before": summary["before"].get(name),
        "after": summary["after"][name],
        "updates": summary["updates"],
        "training_seconds": summary["training_seconds"],
    }
    write_text_whole(run_dir / RECORD, json.dumps(found, indent=2) + "\n")
