"""What would make a run fit, the cheapest change first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nft_lightning.planning.memory import fits, planned
from nft_lightning.planning.setting import SHARDED, Setting

LORA_RANK = 16
LOWEST_SHARE, MOST_GPUS = 0.2, 1024


def remedy(setting: Setting) -> str:
    """The first change in the order of :func:`changes` that suffices, else the first so many of them.

    Empty where it fits as it is; a sentence where nothing suffices.
    """
    if fits(planned(setting), setting):
        return ""
    options = list(changes(setting))
    for override, changed in options:
        if fits(planned(changed), changed):
            return override
    taken: list[str] = []
    while True:
        # Derived anew: what a change leads to depends on those before it.
        left = [(o, s) for o, s in changes(setting) if name(o) not in map(name, taken)]
        if not left:
            break
        override, setting = left[0]
        taken.append(override)
        if fits(planned(setting), setting):
            return " ".join(taken)
    for gpus in more(setting.gpus):
        wider = with_gpus(setting, gpus)
        if fits(planned(wider), wider):
            return " ".join([*taken, f"plan.gpus={gpus}"])
    return "nothing that nft-plan knows: take a smaller model or a GPU with more memory"


def name(override: str) -> str:
    """The key of an override."""
    return override.partition("=")[0]


def more(gpus: int) -> Iterator[int]:
    """Twice as many, and again."""
    while gpus < MOST_GPUS:
        gpus *= 2
        yield gpus


def with_gpus(setting: Setting, gpus: int) -> Setting:
    """Over more GPUs, sharded."""
    strategy = setting.strategy if setting.strategy in SHARDED else "fsdp2"
    return replace(setting, gpus=gpus, strategy=strategy)


def changes(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """Overrides with what they lead to, those without effect left out."""
    if not setting.checkpointing:
        yield "policy.gradient_checkpointing=true", replace(setting, checkpointing=True)
    yield from smaller_budgets(setting)
    if not setting.fused:
        yield "policy.logprobs=fused", replace(setting, fused=True)
    if setting.gpus > 1 and setting.strategy not in SHARDED and setting.optimizer == "adamw":
        yield "trainer.strategy=fsdp2", replace(setting, strategy="fsdp2")
    yield from smaller_engines(setting)
    if not setting.lora_rank:
        yield f"policy.lora_rank={LORA_RANK}", replace(setting, lora_rank=LORA_RANK)
    if setting.optimizer == "adamw" and setting.strategy in ("single", "ddp"):
        yield "optimizer.name=adamw_8bit", replace(setting, optimizer="adamw_8bit")
    if setting.lora_rank and not setting.quantized:
        yield "policy.quantize=4bit", replace(setting, quantized=True)
    yield from smaller_groups(setting)


def smaller_budgets(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """The largest budget of halves that fits; else the smallest that has effect."""
    budget, found = setting.budget, None
    while budget // 2 >= setting.longest_row and not setting.whole_groups:
        budget //= 2
        found = replace(setting, budget=budget)
        if fits(planned(found), found):
            break
    if found is not None:
        yield f"batching.max_tokens_per_micro_batch={budget}", found


def smaller_groups(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """Half as many answers, and again, where those to a problem must lie in one pass."""
    count, found = setting.completions, None
    while setting.whole_groups and count >= 4:
        count //= 2
        found = replace(setting, completions=count)
        if fits(planned(found), found):
            break
    if found is not None:
        yield f"rollout.plan.completions_per_problem={count}", found


def smaller_engines(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """vLLM asleep while training, a smaller share of the GPU, fewer rows of transformers."""
    options = dict(setting.engine_options)
    if setting.engine == "hf" and options["max_rows"] > setting.completions:
        fewer = max(setting.completions, options["max_rows"] // 4)
        changed = replace(setting, engine_options={**options, "max_rows": fewer})
        yield f"rollout.engine.max_rows={fewer}", changed
    if setting.engine != "vllm":
        return
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
