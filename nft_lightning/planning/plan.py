"""A run's plan as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig

from nft_lightning.planning.memory import GIB, PARTS, Memory, fits, planned, trainable
from nft_lightning.planning.remedies import remedy
from nft_lightning.planning.setting import Setting
from nft_lightning.planning.work import Work, work


@dataclass(frozen=True)
class Plan:
    """What was asked, and what comes of it. ``remedy`` is empty where it fits."""

    setting: Setting
    memory: Memory
    work: Work
    fits: bool
    remedy: str

    @property
    def gpu_hours(self) -> float:
        """Of the whole run, evaluations left out."""
        return self.work.iteration_seconds * self.setting.epochs * self.setting.gpus / 3600


def plan_of(cfg: DictConfig) -> Plan:
    """Return the plan of a composed config; raises UserError as :meth:`Setting.of` does."""
    return plan_setting(Setting.of(cfg))


def plan_setting(setting: Setting) -> Plan:
    """Return the plan of a setting."""
    memory = planned(setting)
    return Plan(setting, memory, work(setting), fits(memory, setting), remedy(setting))


def as_data(plan: Plan) -> dict[str, Any]:
    """For JSON: GiB of a GPU, tokens and FLOPs of an iteration over all GPUs, hours of the run."""
    setting, memory, done = plan.setting, plan.memory, plan.work
    return {
        "model": setting.architecture.name,
        "parameters": setting.architecture.parameters,
        "trainable_parameters": int(trainable(setting)),
        "gpu": setting.assumed.gpu,
        "gpus": setting.gpus,
        "strategy": setting.strategy,
        "memory_gib": {
            phase: {
                **{part: round(parts.get(part, 0.0) / GIB, 3) for part in PARTS},
                "total": round(memory.total(phase) / GIB, 3),
            }
            for phase, parts in memory.phases.items()
        },
        "peak_phase": memory.fullest,
        "peak_gib": round(memory.total(memory.fullest) / GIB, 3),
        "usable_gib": round(setting.assumed.type.memory_gib - setting.assumed.overhead_gib, 3),
        "fits": plan.fits,
        "problem": memory.problem or None,
        "remedy": plan.remedy or None,
        "iteration": {
            "completions": round(done.completions),
            "prompt_tokens": round(done.prompt_tokens),
            "generated_tokens": round(done.generated_tokens),
            "trained_tokens": round(done.trained_tokens),
            "micro_batches_per_update": done.micro_batches,
            "completions_at_once": round(done.at_once),
            "flops": done.flops,
            "seconds": {k: round(v, 3) for k, v in done.seconds.items()},
            "total_seconds": round(done.iteration_seconds, 3),
        },
        "iterations": setting.epochs,
        "hours": round(done.iteration_seconds * setting.epochs / 3600, 3),
        "gpu_hours": round(plan.gpu_hours, 2),
        "assumptions": asdict(setting.assumed) | {"mean_response_tokens": setting.mean_response},
        "gpu_facts": asdict(setting.assumed.type),
    }
