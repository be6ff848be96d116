"""What would make a run fit, the cheapest change first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nft_lightning.planning.memory import fits, has_masters, planned, played
from nft_lightning.planning.setting import Setting
from nft_lightning.training.strategies.choice import FSDP2

LORA_RANK = 16
NOTHING = "nothing that nft-plan knows: take a smaller model or a GPU with more memory"
LOWEST_SHARE, MOST_GPUS = 0.2, 1024


def remedy(setting: Setting) -> str:
    """Return the first change in the order of :func:`changes` that suffices, else the fewest of them
    found.

    Empty where it fits as it is; a sentence where nothing suffices.
    """
    if suffices(setting):
        return ""
    for override, changed in changes(setting):
        if suffices(changed):
            return override
    taken, last = applied(setting, None)
    for gpus in (setting.gpus, *more(setting.gpus)):
        wider = last if gpus == setting.gpus else with_gpus(last, gpus)
        if suffices(wider):
            start = setting if gpus == setting.gpus else with_gpus(setting, gpus)
            needed = fewest(start, [name(o) for o in taken])
            return " ".join([*needed, *([f"plan.gpus={gpus}"] if gpus != setting.gpus else [])])
    return NOTHING


def suffices(setting: Setting) -> bool:
    """Return whether it fits."""
    return fits(planned(setting), setting)


def applied(setting: Setting, keys: Sequence[str] | None) -> tuple[list[str], Setting]:
    """Return the changes of these keys, or all until it fits, each derived from what those before led
    to.
    """
    taken: list[str] = []
    while keys is not None or not suffices(setting):
        left = [
            (override, changed)
            for override, changed in changes(setting)
            if name(override) not in map(name, taken) and (keys is None or name(override) in keys)
        ]
        if not left:
            break
        override, setting = left[0]
        taken.append(override)
    return taken, setting


def fewest(setting: Setting, keys: list[str]) -> list[str]:
    """Return the overrides of these keys, without those that are not needed."""
    for key in list(keys):
        without = [k for k in keys if k != key]
        if suffices(applied(setting, without)[1]):
            keys = without
    return applied(setting, keys)[0]


def name(override: str) -> str:
    """Return the key of an override."""
    return override.partition("=")[0]


def more(gpus: int) -> Iterator[int]:
    """Twice as many, and again."""
    while gpus < MOST_GPUS:
        gpus *= 2
        yield gpus


def with_gpus(setting: Setting, gpus: int) -> Setting:
    """Over more GPUs, sharded."""
    return replace(setting, gpus=gpus, strategy=FSDP2)


def changes(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """Overrides with what they lead to, those without effect left out."""
    if not setting.checkpointing:
        yield "policy.gradient_checkpointing=true", replace(setting, checkpointing=True)
    yield from smaller_budgets(setting)
    if not setting.fused:
        yield "policy.logprobs=fused", replace(setting, fused=True)
    if setting.gpus > 1 and setting.strategy != FSDP2 and setting.optimizer == "adamw":
        yield "++trainer.strategy=fsdp2", replace(setting, strategy=FSDP2)
    yield from smaller_engines(setting)
    if not setting.lora_rank:
        yield f"policy.lora_rank={LORA_RANK}", replace(setting, lora_rank=LORA_RANK)
    whole = setting.strategy in ("single", "ddp")
    if setting.optimizer == "adamw" and whole and not has_masters(setting):
        yield "optimizer.name=adamw_8bit", replace(setting, optimizer="adamw_8bit")
    if setting.lora_rank and not setting.quantized:
        yield "policy.quantize=4bit", replace(setting, quantized=True)
    yield from smaller_groups(setting)


def smaller_budgets(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """Yield the largest budget of halves that fits; else the smallest that has effect."""
    budget, found = setting.budget, None
    while budget // 2 >= setting.longest_row and not setting.whole_groups:
        budget //= 2
        found = replace(setting, budget=budget)
        if fits(planned(found), found):
            break
    if found is not None:
        yield f"batching.max_tokens_per_micro_batch={budget}", found


def smaller_groups(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """Half as many answers, and again, where those to a problem must be in one pass."""
    count, found = setting.completions, None
    while setting.whole_groups and count >= 4:
        count //= 2
        found = replace(setting, completions=count)
        if fits(planned(found), found):
            break
    if found is not None:
        yield f"rollout.completions_per_problem={count}", found


def smaller_engines(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """vLLM in bf16, asleep while training, a smaller share of the GPU, fewer rows of transformers."""
    options = dict(setting.engine_options)
    if setting.engine == "hf" and options["max_rows"] > setting.completions:
        fewer = max(setting.completions, options["max_rows"] // 4)
        changed = replace(setting, engine_options={**options, "max_rows": fewer})
        yield f"rollout.engine.max_rows={fewer}", changed
    if setting.engine != "vllm":
        return
    if setting.in_half and played(setting) > setting.computed.itemsize:
        changed = replace(setting, engine_options={**options, "dtype": "bfloat16"})
        yield "rollout.engine.dtype=bfloat16", changed
    if not options["sleep"]:
        yield "rollout.engine.sleep=true", replace(setting, engine_options={**options, "sleep": True})
    share = options["gpu_memory_utilization"]
    found = None
    while share - 0.1 >= LOWEST_SHARE - 1e-9:
        share = round(share - 0.1, 2)
        changed = replace(setting, engine_options={**options, "gpu_memory_utilization": share})
        if planned(changed).problem:
            break
        found = changed
        if fits(planned(found), found):
            break
    if found is not None:
        share = found.engine_options["gpu_memory_utilization"]
        yield f"rollout.engine.gpu_memory_utilization={share}", found
