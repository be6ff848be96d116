"""What decides a run's memory and work, read off its composed config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from nft_lightning.app.build import part, target, unknown_key
from nft_lightning.app.hardware import check_strategy
from nft_lightning.app.parts import check_trainer
from nft_lightning.app.preflight import check_steps
from nft_lightning.common.bounds import check_field
from nft_lightning.engines.weight_sync import engine_dtype
from nft_lightning.errors import UserError
from nft_lightning.objectives.base import Outcomes
from nft_lightning.planning.architecture import Architecture, architecture, folder_of, model_name
from nft_lightning.planning.assumptions import Assumptions
from nft_lightning.planning.trace import Pass
from nft_lightning.policy.head import LARGE_VOCABULARY
from nft_lightning.policy.teacher import FIELD, check_given
from nft_lightning.training.checks import check_own_critic
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import built_optimizer
from nft_lightning.training.rehearsal import rehearse
from nft_lightning.training.strategies.choice import FSDP2

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = {
    "32-true": (None, None),
    "bf16-true": (torch.bfloat16, None),
    "16-true": (torch.float16, None),
    "bf16-mixed": (None, torch.bfloat16),
    "16-mixed": (None, torch.float16),
}
# The optimizer that ``optimizer.custom`` names, and the matrix that it is tried on.
CUSTOM, TRIED_ROWS = "custom", 256
# Lightning's names of strategies.
STRATEGIES = {"auto": "single", "single_device": "single", "ddp": "ddp", FSDP2: FSDP2}


@dataclass(frozen=True)
class Setting:
    """Everything that the plan computes with; a remedy is another one of these.

    ``computes_uniform``: groups that are all right or all wrong get a forward pass in training.
    ``stored`` is the type of the parameters, ``computed`` that of the products. ``engine`` is hf, vllm
    or vllm_server with its options. ``optimizer`` is a name of ``optimizer.name`` or ``custom``, which
    keeps ``state_bytes`` for each number that trains.
    """

    architecture: Architecture
    strategy: str
    gpus: int
    stored: torch.dtype
    computed: torch.dtype
    fused: bool
    checkpointing: bool
    lora_rank: int
    quantized: bool
    optimizer: str
    state_bytes: float
    budget: int
    updates: int
    problems: int
    completions: int
    rounds: int
    max_new_tokens: int
    epochs: int
    drops_uniform: bool
    computes_uniform: bool
    old_logprobs: bool
    reference: bool
    teacher: Architecture | None
    values: bool
    own_critic: bool
    whole_groups: bool
    generates: bool
    engine: str
    engine_options: Mapping[str, Any]
    assumed: Assumptions

    @property
    def frozen_copy(self) -> Architecture | None:
        """Return the model that scores completions and does not train, where it is a copy of its own."""
        if self.teacher is not None:
            return self.teacher
        return self.architecture if self.reference and not self.lora_rank else None

    @property
    def longest_row(self) -> int:
        """Return tokens of the longest prompt with the longest completion."""
        whole = self.assumed.longest_prompt_tokens + self.max_new_tokens
        return min(whole, self.architecture.context)

    @property
    def mean_response(self) -> float:
        """Return tokens of a completion."""
        return float(self.assumed.mean_response_tokens or math.ceil(0.3 * self.max_new_tokens))

    @property
    def mean_row(self) -> float:
        """Return tokens of a prompt with a completion."""
        return self.assumed.mean_prompt_tokens + self.mean_response

    @property
    def in_half(self) -> bool:
        """Products in half precision."""
        return self.computed != torch.float32

    @property
    def autocast(self) -> torch.dtype | None:
        """Return where parameters are cast at each use; sharded ones are cast as they are gathered."""
        return self.computed if self.computed != self.stored and self.strategy != FSDP2 else None

    def passing(self, gradient: bool = True) -> Pass:
        """Return the largest micro-batch, forward and backward or only forward."""
        width = self.longest_row
        rows = max(1, self.budget // width, self.completions if self.whole_groups else 1)
        return Pass(
            self.architecture.name,
            rows,
            width,
            min(self.assumed.mean_prompt_tokens, width - 1),
            self.stored if self.autocast is not None else self.computed,
            self.autocast,
            self.checkpointing and gradient,
            self.fused,
            self.lora_rank,
            gradient,
        )

    @classmethod
    def of(cls, cfg: DictConfig) -> Setting:
        """Read the config of nft-plan.

        Raises:
            UserError: a key or value that the run would refuse, or a model that has no config here.
        """
        check_trainer(cfg)
        assumed, plan = part(cfg, "plan"), part(cfg, "rollout")
        objective, batching = part(cfg, "algorithm"), part(cfg, "batching")
        policy, optimizer = part(cfg, "policy"), part(cfg, "optimizer")
        needs, trainer = objective.needed_inputs, cfg.trainer
        shape = architecture(model_name(cfg.model))
        strategy, gpus = parallel(trainer, assumed)
        engine, options = engine_of(cfg.rollout.engine)
        stored, computed = types(cfg)
        check_own_critic(objective, lora=bool(policy.lora_rank), cut=strategy == FSDP2)
        check_steps(optimizer.name, stored != torch.float32 and not policy.lora_rank)
        return cls(
            architecture=shape,
            strategy=strategy,
            gpus=gpus,
            stored=stored,
            computed=computed,
            fused=policy.logprobs == "fused"
            or (policy.logprobs == "auto" and shape.config.vocab_size >= LARGE_VOCABULARY),
            checkpointing=policy.gradient_checkpointing,
            lora_rank=policy.lora_rank,
            quantized=policy.quantize != "none",
            optimizer=optimizer.name if optimizer.custom is None else CUSTOM,
            state_bytes=0.0 if optimizer.custom is None else state_bytes(optimizer),
            budget=batching.max_tokens_per_micro_batch,
            updates=batching.updates_per_rollout,
            problems=plan.problems_per_rollout,
            completions=plan.completions_per_problem,
            rounds=plan.max_generation_rounds,
            max_new_tokens=plan.max_new_tokens,
            epochs=trainer.max_epochs,
            drops_uniform=objective.drop_uniform_groups,
            computes_uniform=needs.references or computes_uniform(objective, plan.max_new_tokens),
            old_logprobs=needs.old_logprobs or needs.values,
            reference=needs.reference_logprobs,
            teacher=teacher_of(objective),
            values=needs.values,
            own_critic=needs.own_critic,
            whole_groups=needs.whole_groups,
            generates=not needs.references,
            engine=engine,
            engine_options=options,
            assumed=assumed,
        )


def teacher_of(objective: Any) -> Architecture | None:
    """Return the shape of the teacher's model; UserError where it is missing, or has no config here."""
    if not objective.needed_inputs.teacher:
        return None
    check_given(objective.teacher_model)
    try:
        return architecture(folder_of(objective.teacher_model))
    except UserError as error:
        raise UserError(FIELD, objective.teacher_model, *error.given[2:]) from error


def state_bytes(config: OptimizerConfig) -> float:
    """Return what an optimizer of one's own keeps for each number of a matrix, tried on a small one.

    Raises:
        UserError: it cannot be used.
    """
    rehearse(config, None)
    weight = nn.Parameter(torch.ones(TRIED_ROWS, TRIED_ROWS))
    weight.grad = torch.ones_like(weight)
    optimizer = built_optimizer(config, [nn.ParameterList([weight])], [config.learning_rate])
    optimizer.step()
    kept = [v for v in optimizer.state[weight].values() if isinstance(v, torch.Tensor) and v.dim()]
    return sum(v.nbytes for v in kept) / weight.numel()


def parallel(trainer: DictConfig, assumed: Assumptions) -> tuple[str, int]:
    """Return the strategy by our name, and how many GPUs there are."""
    given = trainer.get("strategy", "auto")
    check_strategy(str(given))
    if not isinstance(given, str) or given not in STRATEGIES:
        raise UserError(
            "trainer.strategy", given, "cannot be planned", f"use one of {', '.join(STRATEGIES)}"
        )
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    if assumed.gpus is None and not (isinstance(devices, int) and devices > 0):
        raise UserError("trainer.devices", devices, "is not a number of GPUs", "give plan.gpus=8")
    gpus = assumed.gpus or devices * nodes
    strategy = STRATEGIES[given]
    if strategy == "single" and gpus > 1:
        strategy = "ddp"  # what Lightning makes of it
    return strategy, gpus


def types(cfg: DictConfig) -> tuple[torch.dtype, torch.dtype]:
    """Return the types of parameters and of products."""
    precision = str(cfg.trainer.get("precision", "32-true"))
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UserError("trainer.precision", precision, "cannot be planned", f"use one of {known}")
    stored, computed = PRECISIONS[precision]
    named = str(cfg.model.get("dtype", "float32"))
    check_field("model.dtype", named, choices=tuple(DTYPES))
    own = DTYPES[named]
    return stored or own, computed or stored or own


def engine_of(node: DictConfig) -> tuple[str, dict[str, Any]]:
    """Return the engine's name and options; the engine itself need not be installed."""
    cls = target(node, "rollout.engine")
    known = list(cls.__dataclass_fields__)
    for key in node:
        if key != "_target_" and key not in known:
            raise unknown_key(f"rollout.engine.{key!s}", node[key], known, "rollout.engine")
    if cls.planned_as is None:
        raise UserError(
            "rollout.engine", cls.__name__, "cannot be planned", "use rollout=hf, vllm or vllm_server"
        )
    options = OmegaConf.to_container(node, resolve=True)
    assert isinstance(options, dict)
    engine_dtype(options.get("dtype", "auto"))
    return cls.planned_as, {str(k): v for k, v in options.items()}


def computes_uniform(objective: Any, max_new_tokens: int) -> bool:
    """Return whether training computes a group of only wrong answers, beside a mixed one."""
    count = 4
    rewards = torch.tensor([1.0, 1.0, 0.0, 0.0] + [0.0] * count)
    lengths = torch.full((2 * count,), max_new_tokens // 2 + 1)
    group_ids = torch.arange(2).repeat_interleave(count)
    none_truncated = torch.zeros(2 * count, dtype=torch.bool)
    signal = objective.signal(Outcomes(rewards, group_ids, lengths, max_new_tokens, none_truncated))
    return bool(signal.computed[count:].any())
