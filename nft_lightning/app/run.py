"""One training run from a composed config."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.assemble import assemble
from nft_lightning.app.branch import begin_branch
from nft_lightning.app.cold_start import record
from nft_lightning.app.conditions import conditions_hash
from nft_lightning.app.cut_back import tidy
from nft_lightning.app.hardware import check_started
from nft_lightning.app.parts import Parts, build_parts, check_run_dir
from nft_lightning.app.preflight import (
    check_engine,
    check_lora,
    check_machine,
    embedded_values,
)
from nft_lightning.app.quiet import quiet_libraries
from nft_lightning.app.resume import ENDED, Resume, find, finished, kept_overrides
from nft_lightning.app.run_prompt import check_prompt_file, keep_prompt_file
from nft_lightning.app.screen import print_plan, print_summary
from nft_lightning.app.trainer import build_trainer, check_monitors, lightnings_refusals
from nft_lightning.checkpoints.lock import RunLock
from nft_lightning.checkpoints.run_state import ExactResume, epochs_done
from nft_lightning.common.files import write_text_whole
from nft_lightning.common.text import changes
from nft_lightning.distributed.join import join
from nft_lightning.distributed.preemption import PreemptionHandler
from nft_lightning.distributed.processes import rank
from nft_lightning.records.provenance import add_start
from nft_lightning.records.saved_config import COMMAND, without_secrets
from nft_lightning.training.datamodule import RolloutDataModule
from nft_lightning.training.module import PolicyModule

log = logging.getLogger(__name__)
VERSIONS_OF = ("nft-lightning", "torch", "lightning", "transformers", "hydra-core", "math-verify")


def run(cfg: DictConfig, overrides: Sequence[str] = (), parts: Parts | None = None) -> dict[str, Any]:
    """Check, build, evaluate, train, evaluate; returns the summary that is also written.

    With ``cfg.resume`` it continues from the run folder's last complete checkpoint, or begins at the
    checkpoint of another run that ``cfg.resume`` names.
    ``overrides`` are those of the command line, kept for a resume.

    Raises:
        Preempted: a signal asked to leave, and the run can be resumed.
    """
    quiet_libraries()
    if cfg.trainer.get("profiler"):
        # Its report goes through these loggers.
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.INFO)
    parts = parts or build_parts(cfg)
    check_machine(cfg, parts)
    check_started(cfg.trainer)
    lock, preemption = RunLock(cfg.run_dir), PreemptionHandler()
    check_run_dir(cfg.run_dir, cfg.resume)
    with contextlib.ExitStack() as stack:
        stack.callback(parts.verifier.close)
        if rank() == 0:
            lock.acquire()
            stack.callback(lock.release)
            check_run_dir(cfg.run_dir, cfg.resume)
        if rank() == 0 and (unfit := embedded_values(cfg, overrides)):
            log.warning("%s", unfit)
        resume = find(cfg)
        begin_branch(cfg)
        if resume is not None:
            check_prompt_file(parts.prompt, Path(cfg.run_dir))
        done = resume and finished(cfg, resume)
        if done:
            epochs = f"{done['epochs']} of {cfg.trainer.max_epochs} epochs"
            sys.stdout.write(f"{cfg.run_dir} is finished: {epochs}{ENDED[done['ended_by']]}.\n")
            return done
        preemption.install()
        stack.callback(preemption.restore)
        return train_and_sum_up(cfg, parts, resume, ExactResume(preemption), overrides)


def train_and_sum_up(
    cfg: DictConfig,
    parts: Parts,
    resume: Resume | None,
    state: ExactResume,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """Evaluate, train and evaluate again in a folder that is ours; return the summary."""
    started = time.perf_counter()
    if threads := cfg.trainer.get("threads", 0):
        torch.set_num_threads(threads)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    trainer = build_trainer(cfg, parts, state)
    join(trainer.strategy.root_device)
    check_engine(parts.model, parts.engine, str(trainer.precision), parts.policy.quantize)
    check_lora(parts.model, parts.engine, parts.policy)
    module, data = assemble(parts, trainer, cfg.seed)
    folder = Path(cfg.run_dir)
    if resume is not None:
        tidy(cfg, resume, trainer.loggers)
    if trainer.is_global_zero:
        keep_prompt_file(parts.prompt, folder)
        write_conditions(cfg, folder, overrides)
        if cfg.get("cold_start"):
            record(cfg, folder)
        print_plan(cfg, parts, module, len(data.held_out), resume.checkpoint if resume else None)
    checkpoint = resume.checkpoint if resume else None
    with lightnings_refusals():
        if checkpoint is None:
            state.before = dict(trainer.validate(module, data, verbose=False)[0])
            state.samples_before = list(data.last_evaluation)
            module.timer.drain()
            check_monitors(trainer, state.before)
        trainer.fit(module, data, ckpt_path=checkpoint)
    spent = state.spent()
    summary = {
        "algorithm": algorithm_name(cfg),
        "seed": cfg.seed,
        "before": state.before,
        "after": final_evaluation(trainer, module, data, state),
        "epochs": epochs_done(trainer) - data.progress.cut_short,
        "updates": module.policy_version,
        "learning_rate": module.optimizer_setup.learning_rates[0],
        "tokens": data.progress.tokens,
        "training_seconds": spent["wall"],
        "training_cpu_seconds": spent["processor"],
        "total_seconds": state.seconds["wall"] + time.perf_counter() - started,
        "conditions": conditions_hash(cfg),
        "ended_by": ended_by(cfg.trainer, trainer, data),
    }
    if trainer.is_global_zero:
        write_text_whole(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        print_summary(cfg, summary, state.samples_before, data.last_evaluation)
    return summary


def final_evaluation(
    trainer: L.Trainer, module: PolicyModule, data: RolloutDataModule, state: ExactResume
) -> dict[str, float]:
    """Return the evaluation of the final weights, made now where the schedule left it out."""
    if state.evaluated == module.policy_version and state.evaluation:
        return state.evaluation
    return dict(trainer.validate(module, data, verbose=False)[0])


def ended_by(node: DictConfig, trainer: L.Trainer, data: RolloutDataModule) -> str:
    """Return what ended the training: a key of ``trainer``, or ``empty_rollouts``, or ``callbacks``."""
    if data.gave_up:
        return "empty_rollouts"
    if epochs_done(trainer) - data.progress.cut_short >= node.max_epochs:
        return "max_epochs"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return "max_steps"
    return "max_time" if node.get("max_time") else "callbacks"


def algorithm_name(cfg: DictConfig) -> str:
    """Return the option of ``algorithm`` that was chosen; its class's name where no command line chose
    it.
    """
    if HydraConfig.initialized():
        return str(HydraConfig.get().runtime.choices["algorithm"])
    return str(cfg.algorithm["_target_"]).rpartition(".")[2]


def write_conditions(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """The command, the versions with the hash of the conditions, and the resolved config, last."""
    folder.mkdir(parents=True, exist_ok=True)
    versions = {name: importlib.metadata.version(name) for name in VERSIONS_OF}
    versions["conditions"] = conditions_hash(cfg)
    before = folder / "versions.json"
    if before.exists() and (changed := changes(json.loads(before.read_text()), versions)):
        log.warning("the run was begun with other versions (%s): results may differ", changed)
    command = {"overrides": kept_overrides(overrides), "folder": str(Path.cwd())}
    saved = {**without_secrets(cfg), "resume": None}
    write_text_whole(folder / COMMAND, json.dumps(command, indent=2) + "\n")
    write_text_whole(folder / "versions.json", json.dumps(versions, indent=2) + "\n")
    add_start(folder)
    write_text_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(saved)))
