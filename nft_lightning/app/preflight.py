"""What a run needs of the machine and of libraries, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import target
from nft_lightning.app.hardware import check_devices
from nft_lightning.app.lightning_use import check_callback, check_one_progress_bar
from nft_lightning.app.parts import Parts
from nft_lightning.common.libraries import check_library
from nft_lightning.common.text import key_of
from nft_lightning.engines.adapters_alone import check_adapted_layers, check_alone
from nft_lightning.engines.base import EngineConfig
from nft_lightning.errors import UserError
from nft_lightning.policy import teacher, value_model
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.loading import DTYPES, ModelConfig
from nft_lightning.policy.lora import without_weights
from nft_lightning.policy.other_model import inspect_other
from nft_lightning.policy.requirements import check_policy
from nft_lightning.training.checks import check_own_critic
from nft_lightning.training.rehearsal import rehearse
from nft_lightning.training.schedule import described, total_updates
from nft_lightning.training.strategies.choice import CUT

EMBEDDED = ("nft_lightning.TinyModel", {"rollout.max_new_tokens": 64, "optimizer.learning_rate": 2e-4})
"""The embedded policy, and values of conf/ that suit no other model."""


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
    typed = {key_of(override) for override in overrides}
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


def check_engine(
    model: ModelConfig, engine: Any, precision: str = "32-true", quantize: str = "none"
) -> None:
    """Raise UserError where the engine cannot run the model; before its weights are loaded.

    Args:
        model, engine: as the nodes ``model`` and ``rollout.engine`` describe them.
        precision: the trainer's. quantize: the policy's.
    """
    config = model.inspect().config
    if config is not None:
        half = precision.startswith("bf16") or quantize != "none"
        engine.check_model(config, torch.bfloat16 if half else DTYPES[model.dtype])


def check_lora(model: ModelConfig, engine: EngineConfig, policy: PolicyConfig) -> None:
    """Raise UserError where LoRA does not fit the model or the engine; before weights are loaded.

    Args:
        model, engine, policy: as the nodes ``model``, ``rollout.engine`` and ``policy`` describe them.
    """
    check_alone(engine, policy)
    config = model.inspect().config
    if not policy.lora_rank or config is None:
        return
    adapted = policy.with_adapters(without_weights(config, model.trust_remote_code))
    check_adapted_layers(engine, policy, adapted)


def is_cut(cfg: DictConfig) -> bool:
    """Return whether the strategy cuts parameters or gradients over the ranks."""
    return str(cfg.trainer.get("strategy", "auto")) in CUT


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
    if is_cut(cfg):
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
    if own is not None and is_cut(cfg):
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
    narrow = halved or parts.model.dtype != "float32"
    return narrow and not parts.policy.lora_rank


def check_critic(cfg: DictConfig, parts: Parts) -> None:
    """Raise UserError where a critic of its own cannot train, or its model cannot be read."""
    check_own_critic(parts.objective, lora=bool(parts.policy.lora_rank), cut=is_cut(cfg))
    if path := parts.objective.critic_options.path:
        inspect_other(value_model.FIELD, path, parts.model.inspect().tokenizer)


def check_teacher(parts: Parts) -> None:
    """Raise UserError where the algorithm needs a teacher, and none is given or it cannot be read."""
    if not parts.objective.needed_inputs.teacher:
        return
    path = parts.objective.teacher_model
    teacher.check_given(path)
    inspect_other(teacher.FIELD, str(path), parts.model.inspect().tokenizer)


def check_quantization(cfg: DictConfig, parts: Parts) -> None:
    """Raise UserError where 4-bit weights would be sharded."""
    given = parts.policy.quantize
    if given != "none" and is_cut(cfg):
        raise UserError("policy.quantize", given, "does not shard", "use trainer=ddp")
