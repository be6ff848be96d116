"""One training run from a composed config."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nft_lightning.cli.screen import print_plan, print_summary
from nft_lightning.config import (
    Parts,
    build,
    build_parts,
    check_length,
    check_run_dir,
    conditions_hash,
)
from nft_lightning.datamodule import RolloutDataModule
from nft_lightning.engines.base import Prompt
from nft_lightning.errors import UserError
from nft_lightning.module import PolicyModule
from nft_lightning.policy.policy import Policy
from nft_lightning.problems.prompts import prompt_ids
from nft_lightning.rollouts.collector import Collector
from nft_lightning.timing import PhaseTimer

VERSIONS_OF = ("nft-lightning", "torch", "lightning", "transformers", "hydra-core", "math-verify")


def run(cfg: DictConfig) -> dict[str, Any]:
    """Check, build, evaluate, train, evaluate; returns the summary that is also written."""
    quiet_libraries()
    parts = build_parts(cfg)
    check_run_dir(cfg.run_dir)
    threads = cfg.trainer.get("threads", 0)
    if threads:
        torch.set_num_threads(threads)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    trainer = build_trainer(cfg, parts)
    module, data = assemble(cfg, parts, parts.model.load(parts.plan.temperature))
    folder = Path(cfg.run_dir)
    if trainer.is_global_zero:
        write_conditions(cfg, folder)
        print_plan(cfg, parts, module)
    started = time.perf_counter()
    try:
        before = trainer.validate(module, data, verbose=False)[0]
        samples_before = list(data.last_evaluation)
        module.timer.drain()
        fit_started, cpu_started = time.perf_counter(), time.process_time()
        trainer.fit(module, data)
        training_seconds = time.perf_counter() - fit_started
        training_cpu_seconds = time.process_time() - cpu_started
        after = final_evaluation(trainer, module, data)
    finally:
        parts.verifier.close()
    summary = {
        "algorithm": algorithm_name(cfg),
        "seed": cfg.seed,
        "before": before,
        "after": after,
        "epochs": trainer.current_epoch,
        "updates": module.policy_version,
        "learning_rate": module.learning_rates[0],
        "tokens": data.tokens,
        "training_seconds": training_seconds,
        "training_cpu_seconds": training_cpu_seconds,
        "total_seconds": time.perf_counter() - started,
        "conditions": conditions_hash(cfg),
        "stopped_early": data.empty_rollouts >= parts.batching.stop_after_empty_rollouts,
    }
    if trainer.is_global_zero:
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        print_summary(cfg, summary, samples_before, data.last_evaluation)
    return summary


def final_evaluation(
    trainer: L.Trainer, module: PolicyModule, data: RolloutDataModule
) -> dict[str, float]:
    """The last epoch's evaluation, made now where the schedule left it out."""
    known = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("eval/")}
    every = data.evaluation.every_epochs
    if trainer.current_epoch % every == 0 and known:
        return known
    return dict(trainer.validate(module, data, verbose=False)[0])


def build_trainer(cfg: DictConfig, parts: Parts) -> L.Trainer:
    """Lightning's trainer with our loggers and callbacks."""
    options = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(options, dict)
    options.pop("threads", None)
    # ``callbacks.progress=null`` leaves one out.
    loggers, callbacks = (
        [build(node, f"{group}.{name}") for name, node in (cfg[group] or {}).items() if node]
        for group in ("logger", "callbacks")
    )
    defaults: dict[str, Any] = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": bool((cfg.callbacks or {}).get("checkpoint")),
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    try:
        return L.Trainer(
            **{**defaults, **options},
            default_root_dir=cfg.run_dir,
            check_val_every_n_epoch=parts.evaluation.every_epochs,
            logger=loggers or False,
            callbacks=callbacks,
        )
    except (
        TypeError,
        ValueError,
        RuntimeError,
        L.fabric.utilities.exceptions.MisconfigurationException,
    ) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            "trainer", options, f"is refused by Lightning ({reason})", "see conf/trainer"
        ) from error


def assemble(cfg: DictConfig, parts: Parts, policy: Policy) -> tuple[PolicyModule, RolloutDataModule]:
    """The module and the data module around a loaded policy."""
    timer = PhaseTimer()
    context = getattr(policy.model.config, "max_position_embeddings", None)

    def encode(text: str) -> Prompt:
        ids = prompt_ids(policy.tokenizer, text, parts.prompt_template)
        check_length(len(ids), parts.plan.max_new_tokens, context, text)
        return ids

    def encode_solution(text: str) -> Prompt:
        ids = policy.tokenizer.encode(text, add_special_tokens=False)
        return (*ids, policy.tokenizer.eos_token_id)

    engine = parts.engine.build(policy.model, policy.tokenizer)
    collector = Collector(
        parts.source,
        engine,
        parts.verifier,
        parts.verifier.rewards,
        encode,
        parts.plan,
        timer,
        encode_solution,
    )
    probe = parts.proof.probe([encode(p.text) for p in parts.source.held_out(8)], context)
    data = RolloutDataModule(
        collector,
        engine,
        parts.objective,
        parts.batching,
        parts.evaluation,
        cfg.seed,
        timer,
        (lambda version: parts.proof.check(engine, policy, probe, version)) if probe else None,
    )
    return PolicyModule(policy, parts.objective, parts.optimizer, timer), data


def algorithm_name(cfg: DictConfig) -> str:
    """The option of ``algorithm`` that was chosen; its class's name where no command line chose it."""
    if HydraConfig.initialized():
        return str(HydraConfig.get().runtime.choices["algorithm"])
    return str(cfg.algorithm["_target_"]).rpartition(".")[2]


def write_conditions(cfg: DictConfig, folder: Path) -> None:
    """The resolved config, the versions and the hash of the conditions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    versions = {name: importlib.metadata.version(name) for name in VERSIONS_OF}
    versions["conditions"] = conditions_hash(cfg)
    (folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


def quiet_libraries() -> None:
    """Notices that say nothing about this run stay off the screen."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("lightning.pytorch", "lightning.fabric", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
