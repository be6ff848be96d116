"""What a run needs of the machine and of libraries, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import target
from nft_lightning.app.lightning_use import check_callback, check_one_progress_bar
from nft_lightning.app.parts import Parts
from nft_lightning.distributed.launch import ranks_of
from nft_lightning.distributed.processes import started_by, world_size
from nft_lightning.engines.adapters_alone import check_adapted_layers, check_alone
from nft_lightning.errors import UserError
from nft_lightning.policy import teacher, value_model
from nft_lightning.policy.loading import DTYPES
from nft_lightning.policy.lora import without_weights
from nft_lightning.policy.other_model import inspect_other
from nft_lightning.policy.requirements import check_library, check_policy
from nft_lightning.training.checks import check_own_critic
from nft_lightning.training.rehearsal import rehearse
from nft_lightning.training.schedule import described, total_updates
from nft_lightning.training.strategies.choice import CUT, FSDP2, PARAMETERS_CUT, ZERO_2, ZERO_3

PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16", "bf16-true", "16-true")
EMBEDDED = ("nft_lightning.TinyModel", {"rollout.max_new_tokens": 64, "optimizer.learning_rate": 2e-4})
"""The embedded policy, and values of conf/ that suit no other model."""
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def check_machine(cfg: DictConfig, parts: Parts) -> None:
    """Raise UserError, in one sentence, where this machine cannot run the config."""
    check_callbacks(cfg)
    check_devices(cfg, parts)
    check_optimizer(cfg, parts)
    check_policy(parts.model, parts.policy)
    check_quantization(cfg, parts)
    check_critic(cfg, parts)
    check_teacher(parts)


def check_callbacks(cfg: DictConfig) -> None:
    """Raise UserError for a callback that does not fit a run."""
    nodes = {str(name): node for name, node in (cfg.get("callbacks") or {}).items() if node}
    classes = {name: target(node, f"callbacks.{name}") for name, node in nodes.items()}
    for name, cls in classes.items():
        check_callback(f"callbacks.{name}", cls)
    check_one_progress_bar(cfg, classes)


def embedded_values(cfg: DictConfig, overrides: Sequence[str]) -> str | None:
    """Return a sentence about values of the embedded policy that another model would train with.

    Args:
        overrides: those of the command line; what is typed there is meant.
    """
    embedded, values = EMBEDDED
    typed = {override.lstrip("+").partition("=")[0] for override in overrides}
    found = [
        f"{name}={value:g}"
        for name, value in values.items()
        if OmegaConf.select(cfg, name) == value and name not in typed
    ]
    if cfg.model.get("_target_") == embedded or not found:
        return None
    return (
        f"{' and '.join(found)} suit the embedded policy, not a language model: "
        "experiment=small_model and experiment=cpu_model hold other values"
    )


def check_engine(model: Any, engine: Any, precision: str = "32-true", quantize: str = "none") -> None:
    """Raise UserError where the engine cannot run the model; before its weights are loaded.

    Args:
        model, engine: as the nodes ``model`` and ``rollout.engine`` describe them.
        precision: the trainer's. quantize: the policy's.
    """
    config = getattr(model.inspect(), "config", None)
    if config is not None:
        half = precision.startswith("bf16") or quantize != "none"
        own = DTYPES.get(getattr(model, "dtype", "float32"), torch.float32)
        engine.check_model(config, torch.bfloat16 if half else own)


def check_lora(model: Any, engine: Any, policy: Any) -> None:
    """Raise UserError where LoRA does not fit the model or the engine; before weights are loaded.

    Args:
        model, engine, policy: as the nodes ``model``, ``rollout.engine`` and ``policy`` describe them.
    """
    check_alone(engine, policy)
    config = getattr(model.inspect(), "config", None)
    if not policy.lora_rank or config is None:
        return
    adapted = policy.with_adapters(without_weights(config, getattr(model, "trust_remote_code", False)))
    check_adapted_layers(engine, policy, adapted)


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
    if trainer.get("accelerator") == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            "trainer.accelerator", trainer.accelerator, "is not on this machine", "use trainer=cpu"
        )
    if trainer.get("accelerator") in ("gpu", "cuda") and not gpu(trainer.accelerator):
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
            "would compile anew at every gathering of ZeRO 3",
            "use trainer=zero2 or trainer=fsdp2",
        )


def check_attention(cfg: DictConfig, parts: Parts) -> None:
    """Flash attention is for GPUs, and for half precision."""
    named, trainer = getattr(parts.model, "attention", None), cfg.trainer
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


def gpu(accelerator: str) -> bool:
    """Return whether there is one."""
    apple = accelerator == "gpu" and torch.backends.mps.is_available()
    return torch.cuda.is_available() or apple


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


def check_optimizer(cfg: DictConfig, parts: Parts) -> None:
    """The optimizer's library, CUDA, and a strategy that it knows."""
    name = parts.optimizer.name
    check_custom(cfg, parts)
    if name == "adamw":
        return
    check_steps(name, trains_narrow(cfg, parts))
    if name.endswith("8bit"):
        check_library("optimizer.name", name, "bitsandbytes", "bitsandbytes")
    if name != "adamw_8bit" and not torch.cuda.is_available():
        raise UserError("optimizer.name", name, "needs CUDA", "use adamw")
    if str(cfg.trainer.get("strategy", "auto")) in CUT:
        raise UserError("optimizer.name", name, "does not know sharded parameters", "use adamw")


def check_custom(cfg: DictConfig, parts: Parts) -> None:
    """Raise UserError where an optimizer or a schedule of one's own cannot be used."""
    own = parts.optimizer.custom
    if own is not None and trains_narrow(cfg, parts):
        raise UserError(
            "optimizer.custom",
            described(own),
            "steps on weights of 16 bits, where a step below 1/256 of a weight is lost",
            "use optimizer.name=adamw, which has fp32 masters, or policy.lora_rank=16",
        )
    if own is not None and str(cfg.trainer.get("strategy", "auto")) in CUT:
        raise UserError(
            "optimizer.custom",
            described(own),
            "may not know sharded parameters",
            "use optimizer.name=adamw, or trainer=ddp",
        )
    trainer, length = cfg.trainer, parts.batching.updates_per_rollout
    total = total_updates(trainer.max_epochs, trainer.get("max_steps", -1), length)
    rehearse(parts.optimizer, total)


def check_steps(optimizer: str, narrow: bool) -> None:
    """UserError where an optimizer without masters would step on weights of 16 bits."""
    if optimizer.endswith("8bit") and narrow:
        raise UserError(
            "optimizer.name",
            optimizer,
            "steps on weights of 16 bits, where a step below 1/256 of a weight is lost",
            "use adamw, which has fp32 masters, or policy.lora_rank=16",
        )


def trains_narrow(cfg: DictConfig, parts: Parts) -> bool:
    """Return whether what trains is stored in 16 bits; LoRA's matrices never are."""
    halved = str(cfg.trainer.get("precision", "32-true")).endswith("16-true")
    narrow = halved or getattr(parts.model, "dtype", "float32") != "float32"
    return narrow and not parts.policy.lora_rank


def check_critic(cfg: DictConfig, parts: Parts) -> None:
    """Raise UserError where a critic of its own cannot train, or its model cannot be read."""
    cut = str(cfg.trainer.get("strategy", "auto")) in CUT
    check_own_critic(parts.objective, lora=bool(parts.policy.lora_rank), cut=cut)
    if path := getattr(parts.objective, "critic_path", None):
        inspect_other(value_model.FIELD, path, parts.model.inspect().tokenizer)


def check_teacher(parts: Parts) -> None:
    """Raise UserError where the algorithm needs a teacher, and none is given or it cannot be read."""
    if not parts.objective.needed_inputs.teacher:
        return
    path = getattr(parts.objective, "teacher_path", None)
    teacher.check_given(path)
    inspect_other(teacher.FIELD, str(path), parts.model.inspect().tokenizer)


def check_quantization(cfg: DictConfig, parts: Parts) -> None:
    """Raise UserError where 4-bit weights would be sharded."""
    given = parts.policy.quantize
    if given != "none" and str(cfg.trainer.get("strategy", "auto")) in CUT:
        raise UserError("policy.quantize", given, "does not shard", "use trainer=ddp")
