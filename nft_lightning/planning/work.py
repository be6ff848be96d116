"""Tokens, FLOPs and seconds of an iteration: one rollout and its updates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nft_lightning.planning.memory import (
    MASTER_BYTES,
    engine_weights,
    has_masters,
    key_value_bytes,
    planned,
    rows_in_flight,
    trainable,
    trained_bytes,
)
from nft_lightning.planning.setting import CUSTOM, Setting
from nft_lightning.training.strategies.choice import FSDP2

# Rows of like length share a micro-batch: what is left is padding.
FILLED = 0.95


@dataclass(frozen=True)
class Work:
    """Of an iteration, over all GPUs.

    Attributes:
        completions: written; generated_tokens: of those; trained_tokens: prompts included.
        flops: by phase; seconds: by phase.
        micro_batches: of an update, on each GPU.
        at_once: completions that one copy of the engine writes at a time.
    """

    completions: float
    generated_tokens: float
    prompt_tokens: float
    trained_tokens: float
    flops: dict[str, float]
    seconds: dict[str, float]
    micro_batches: int
    at_once: float

    @property
    def iteration_seconds(self) -> float:
        """Return one after the other."""
        return sum(self.seconds.values())


def work(setting: Setting) -> Work:
    """See :class:`Work`."""
    asked, kept = groups(setting)
    completions = asked * setting.completions if setting.generates else 0.0
    trained_rows = kept * (setting.completions if setting.generates else 1)
    trained = trained_rows * setting.mean_row
    forward = trained_flops(setting, trained_rows)
    critic = critic_flops(setting, trained_rows)
    stale = 1 - 1 / setting.updates if setting.old_logprobs else 0.0
    backward = 1.0 if setting.lora_rank else 2.0
    passes = 1 + backward + (1 if setting.checkpointing else 0)
    prompts = asked * setting.assumed.mean_prompt_tokens if setting.generates else 0.0
    flops = {
        "prefill": setting.architecture.forward_flops(prompts, setting.assumed.mean_prompt_tokens, 0),
        "decode": decode_flops(setting, completions),
        "old log-probabilities": (forward + critic) * stale + reference_flops(setting, trained_rows),
        "training": (forward + critic) * passes,
    }
    at_once = concurrency(setting, completions)
    micro = micro_batches(setting, trained)
    seconds = {
        "prefill": flops["prefill"] / rate(setting, setting.assumed.prefill_utilization),
        "decode": decode_seconds(setting, completions, at_once),
        "old log-probabilities": max(
            flops["old log-probabilities"] / rate(setting, setting.assumed.training_utilization),
            setting.updates * micro * (stale + setting.reference) * exchange_seconds(setting, 1, 0),
        ),
        "training": max(
            flops["training"] / rate(setting, setting.assumed.training_utilization),
            setting.updates * training_exchange(setting, micro),
        ),
        "optimizer": setting.updates * step_seconds(setting),
        "sync": sync_seconds(setting),
    }
    generated = completions * setting.mean_response
    return Work(completions, generated, prompts, trained, flops, seconds, micro, at_once)


def groups(setting: Setting) -> tuple[float, float]:
    """Return groups asked for, uniform ones again where they are dropped, and groups that training
    computes.
    """
    uniform, problems = setting.assumed.uniform_fraction, float(setting.problems)
    if not setting.drops_uniform or not setting.generates:
        return problems, problems * (1 if setting.computes_uniform else 1 - uniform)
    asked = problems * sum(uniform**i for i in range(setting.rounds))
    return asked, problems * (1 - uniform**setting.rounds)


def trained_flops(setting: Setting, rows: float) -> float:
    """Return a forward pass over all rows, with logits of answers only."""
    shape = setting.architecture
    return shape.forward_flops(rows * setting.mean_row, setting.mean_row, rows * setting.mean_response)


def reference_flops(setting: Setting, rows: float) -> float:
    """Return a forward pass of the teacher or the frozen policy, with logits of answers only."""
    if not setting.reference:
        return 0.0
    shape, row = setting.teacher or setting.architecture, setting.mean_row
    return shape.forward_flops(rows * row, row, rows * setting.mean_response)


def critic_flops(setting: Setting, rows: float) -> float:
    """Return the same of a critic's own trunk, which has no logits."""
    if not setting.own_critic:
        return 0.0
    return setting.architecture.forward_flops(rows * setting.mean_row, setting.mean_row, 0)


def decode_flops(setting: Setting, completions: float) -> float:
    """Return each token attends to what is there: the prompt and, on average, half the response."""
    seen = setting.assumed.mean_prompt_tokens + setting.mean_response / 2
    return setting.architecture.forward_flops(completions * setting.mean_response, seen)


def rate(setting: Setting, utilization: float) -> float:
    """Return FLOPs a second of all GPUs."""
    gpu = setting.assumed.type
    peak = gpu.bf16_tflops if setting.in_half else gpu.fp32_tflops
    return setting.gpus * peak * 1e12 * utilization


def copies(setting: Setting) -> float:
    """Engines that write side by side."""
    if setting.engine == "vllm_server":
        return float(len(setting.engine_options["addresses"]))
    return setting.gpus / setting.engine_options.get("tensor_parallel_size", 1)


def concurrency(setting: Setting, completions: float) -> float:
    """Return completions in flight in one copy."""
    if not completions:
        return 0.0
    share = completions / copies(setting)
    if setting.engine == "hf":
        return min(share, rows_in_flight(setting))
    if setting.engine == "vllm_server":
        return min(share, 256.0)
    # Half written, on average.
    seen = setting.assumed.mean_prompt_tokens + setting.mean_response / 2
    cache = planned(setting).phases["rollout"].get("KV cache", 0.0) / key_value_bytes(setting)
    return max(1.0, min(share, setting.engine_options["max_num_seqs"], cache / seen))


def decode_seconds(setting: Setting, completions: float, at_once: float) -> float:
    """Steps of a full batch; at least as long as the longest completion takes by itself."""
    if not completions:
        return 0.0
    gpu, parallel = setting.assumed.type, setting.engine_options.get("tensor_parallel_size", 1)
    bandwidth = gpu.memory_gb_s * 1e9 * setting.assumed.decode_bandwidth_utilization
    seen = setting.assumed.mean_prompt_tokens + setting.mean_response / 2
    weights = engine_weights(setting)
    step = (weights + at_once * seen * key_value_bytes(setting)) / bandwidth
    one_copy = rate(setting, setting.assumed.prefill_utilization) / setting.gpus * parallel
    step = max(step, setting.architecture.forward_flops(at_once, seen) / one_copy)
    steps = completions / copies(setting) * setting.mean_response / at_once
    return max(steps * step, setting.max_new_tokens * weights / bandwidth)


def micro_batches(setting: Setting, trained: float) -> int:
    """Of one update on one GPU."""
    share = trained / setting.updates / setting.gpus
    return max(1, math.ceil(share / (max(setting.budget, setting.mean_row) * FILLED)))


def bandwidth(setting: Setting) -> float:
    """Return the bytes per second that a GPU exchanges with the others."""
    gpu, assumed = setting.assumed.type, setting.assumed
    alone = setting.gpus <= assumed.gpus_per_node
    return (
        (gpu.link_gb_s if alone else min(gpu.link_gb_s, assumed.network_gb_s))
        * 1e9
        * assumed.link_utilization
    )


def exchange_seconds(setting: Setting, gathers: int, scatters: int) -> float:
    """Parameters gathered and fp32 gradients scattered once for a micro-batch, by rings."""
    if setting.strategy != FSDP2 or setting.gpus == 1:
        return 0.0
    gathered = setting.architecture.parameters * setting.computed.itemsize * gathers
    return (gathered + trainable(setting) * 4 * scatters) / bandwidth(setting)


def training_exchange(setting: Setting, micro: int) -> float:
    """Of one update; it is taken to run beside the computing."""
    if setting.gpus == 1 or setting.strategy == "single":
        return 0.0
    if setting.strategy == FSDP2:
        return micro * exchange_seconds(setting, 2, 1)
    return 2 * trainable(setting) * trained_bytes(setting) / bandwidth(setting)


def step_seconds(setting: Setting) -> float:
    """AdamW reads four numbers and writes three for each parameter; offloaded, they cross the link.

    Masters add gradients that are widened, and parameters that are rounded. An optimizer of one's own
    reads and writes what it keeps.
    """
    numbers = trainable(setting) / (setting.gpus if setting.strategy == FSDP2 else 1)
    if setting.optimizer == "adamw_cpu_offload":
        return numbers * 2 * trained_bytes(setting) / 25e9  # PCIe, both ways
    each = 7.0 * MASTER_BYTES
    if setting.optimizer == CUSTOM:
        each = 3 * MASTER_BYTES + 2 * setting.state_bytes
    if has_masters(setting):
        each += MASTER_BYTES + 2 * trained_bytes(setting)
    return numbers * each / (setting.assumed.type.memory_gb_s * 1e9)


def sync_seconds(setting: Setting) -> float:
    """Return every tensor whole on each GPU, once."""
    if setting.strategy != FSDP2 or setting.gpus == 1:
        return 0.0
    return setting.architecture.parameters * setting.stored.itemsize / bandwidth(setting)
