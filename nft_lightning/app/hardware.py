"""Accelerator, processes, strategy and precision of a run, checked before a model is loaded."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig

from nft_lightning.app.parts import Parts
from nft_lightning.common.libraries import check_library
from nft_lightning.distributed.launch import ranks_of
from nft_lightning.distributed.processes import started_by, world_size
from nft_lightning.errors import UserError
from nft_lightning.training.strategies.choice import FSDP2, PARAMETERS_CUT, ZERO_2, ZERO_3

PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16", "bf16-true", "16-true")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def check_devices(cfg: DictConfig, parts: Parts) -> None:
    """Accelerator, processes, strategy and precision."""
    trainer = cfg.trainer
    strategy, precision = str(trainer.get("strategy", "auto")), str(trainer.get("precision", "32-true"))
    check_strategy(strategy)
    if trainer.get("accelerator", "auto") not in ACCELERATORS:
        raise UserError(
            "trainer.accelerator",
            trainer.accelerator,
            "is not one that a run can use",
            f"use one of {', '.join(ACCELERATORS)}",
        )
    if not present(str(trainer.get("accelerator", "auto"))):
        raise UserError(
            "trainer.accelerator", trainer.accelerator, "is not on this machine", "use trainer=cpu"
        )
    check_precision(precision)
    check_sharded(cfg, parts, strategy, precision)
    check_attention(cfg, parts)
    check_processes(trainer, parts)


def check_precision(precision: str) -> None:
    """Raise UserError for a precision that a run cannot use."""
    if precision not in PRECISIONS and not precision.startswith("16"):
        raise UserError(
            "trainer.precision",
            precision,
            "is not one that a run can use",
            f"use one of {', '.join(PRECISIONS)}",
        )
    if precision.startswith("16-mixed") or precision == "16":
        raise UserError(
            "trainer.precision",
            precision,
            "scales the gradients, so that they would be clipped at another norm",
            "use bf16-mixed",
        )


def check_sharded(cfg: DictConfig, parts: Parts, strategy: str, precision: str) -> None:
    """What parameters that are cut over the ranks cannot do."""
    if precision.endswith("16-true") and strategy == FSDP2 and parts.policy.lora_rank:
        raise UserError(
            "trainer.precision",
            precision,
            "stores weights otherwise than LoRA's matrices, which FSDP2 cannot shard together",
            "use bf16-mixed",
        )
    if precision == "16-true" and strategy in (ZERO_2, ZERO_3):
        raise UserError("trainer.precision", precision, "does not fit ZeRO here", "use bf16-true")
    if strategy in PARAMETERS_CUT and (cfg.get("callbacks") or {}).get("gradient_cosine"):
        raise UserError(
            "callbacks.gradient_cosine",
            "on",
            "differentiates without the hooks that gather sharded parameters",
            "use trainer=ddp, or leave it out",
        )
    if strategy == ZERO_3 and parts.policy.compile:
        raise UserError(
            "policy.compile",
            True,
            "would compile again at every gathering of ZeRO 3",
            "use trainer=zero2 or trainer=fsdp2",
        )


def check_attention(cfg: DictConfig, parts: Parts) -> None:
    """Flash attention is for GPUs, and for half precision."""
    named, trainer = parts.model.attention, cfg.trainer
    if named != "flash_attention_2":
        return
    if not torch.cuda.is_available() or trainer.get("accelerator") == "cpu":
        raise UserError("model.attention", named, "needs CUDA", "use sdpa")
    precision = str(trainer.get("precision", "32-true"))
    if precision == "32-true" and parts.model.dtype == "float32":
        raise UserError(
            "trainer.precision", precision, "is more than flash attention computes in", "use bf16-mixed"
        )


def check_strategy(strategy: str) -> None:
    """Raise UserError for a strategy that cannot do what a run needs."""
    if strategy.startswith("deepspeed"):
        check_deepspeed(strategy)
    if strategy.startswith("fsdp") and strategy != FSDP2:
        raise UserError(
            "trainer.strategy",
            strategy,
            "flattens parameters, which weight sync and checkpoints cannot read",
            "use trainer=fsdp, which is FSDP2 on GPUs",
        )


def check_deepspeed(strategy: str) -> None:
    """Its name, and its library."""
    if strategy not in (ZERO_2, ZERO_3):
        raise UserError(
            "trainer.strategy",
            strategy,
            "is not one of DeepSpeed's that a run can use",
            f"use {ZERO_2} (trainer=zero2) or {ZERO_3} (trainer=zero3)",
        )
    check_library("trainer.strategy", strategy, "deepspeed", "deepspeed", ", or use trainer=fsdp2")


def present(accelerator: str) -> bool:
    """Return whether this machine has the accelerator."""
    apple = accelerator in ("gpu", "mps") and torch.backends.mps.is_available()
    cuda = accelerator in ("gpu", "cuda") and torch.cuda.is_available()
    return accelerator in ("auto", "cpu") or apple or cuda


def check_processes(trainer: Any, parts: Parts) -> None:
    """Raise UserError unless the ranks are as many as asked for, with a problem to evaluate for each."""
    ranks = ranks_of(trainer)
    asked = ranks.per_host * ranks.hosts
    if started_by() is not None and world_size() != asked:
        raise UserError(
            "trainer.devices",
            trainer.get("devices", 1),
            f"makes {asked} ranks with trainer.num_nodes, where the launcher started {world_size()}",
            "let them agree, or leave out the launcher: nft-train starts its ranks itself",
        )
    problems = len(parts.source.held_out(parts.evaluation.problems)) if asked > 1 else asked
    if problems < asked:
        raise UserError(
            "evaluation.problems", problems, f"is too few for {asked} ranks", "use more problems"
        )


def check_started(trainer: Any) -> None:
    """Raise UserError where a run of several ranks is begun in one process that nothing launched."""
    ranks = ranks_of(trainer)
    if ranks.several and started_by() is None:
        raise UserError(
            "trainer.devices",
            trainer.get("devices", 1),
            "needs as many ranks, and this process is the only one",
            "use the command nft-train, which starts them, or torchrun",
        )
