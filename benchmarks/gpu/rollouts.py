"""vLLM beside the trainer on one GPU: sleep and wake, weight sync, speed against plain vLLM.

    python benchmarks/gpu/rollouts.py --out benchmarks/results/gpu_rollouts

Needs one NVIDIA GPU with 24 GiB or more and ``pip install '.[vllm]'``; nothing is
downloaded: the policy has Qwen3-0.6B's shape with random weights in bf16, and every completion runs to
its limit. Each cycle is one epoch's: wake, sync, generate, sleep. Memory is the device's, asked of the
driver, so a leak of vLLM's or ours would show. Writes ``results.json`` and ``results.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from common import GIB, needs, random_model


def in_use() -> float:
    """GiB of the device that are taken, whoever took them."""
    import torch

    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return (total - free) / GIB


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Cycles as in training, then both sides in turn on the same prompts."""
    import torch
    from vllm import SamplingParams

    from nft_lightning.engines.vllm.engine import VLLMEngineConfig
    from nft_lightning.engines.weight_sync import full_tensors
    from nft_lightning.policy.loading import finish
    from nft_lightning.rollouts.sync_check import SyncCheck
    from nft_lightning.types import Sampling

    policy = finish(*random_model("qwen3_0.6b", torch.bfloat16, "cuda"), 1.0)
    engine = VLLMEngineConfig(gpu_memory_utilization=0.4, max_model_len=4096).build(
        policy.model, policy.tokenizer
    )
    prompts = [tuple(5 + (i * 7 + j) % 60 for j in range(64)) for i in range(given.prompts)]
    seeds = [[i * given.completions + k for k in range(given.completions)] for i in range(len(prompts))]
    sampling = Sampling(1.0, given.max_new_tokens)
    check, probe = SyncCheck(), prompts[:2]
    awake, asleep, syncs, gaps = [], [], [], []
    for cycle in range(given.cycles):
        syncs.append(engine.load_weights(full_tensors(policy.model), cycle).seconds)
        awake.append(in_use())
        gaps.append(check.check(engine, policy, probe, cycle))
        engine.generate(prompts[:8], Sampling(1.0, 32), seeds[:8])
        engine.sleep()
        asleep.append(in_use())
    engine.load_weights(full_tensors(policy.model), given.cycles)
    parameters = [
        SamplingParams(
            n=given.completions,
            seed=group[0],
            temperature=1.0,
            max_tokens=given.max_new_tokens,
            logprobs=0,
            detokenize=False,
            stop_token_ids=[policy.tokenizer.eos_token_id],
        )
        for group in seeds
    ]

    def ours() -> int:
        return sum(len(c.token_ids) for g in engine.generate(prompts, sampling, seeds) for c in g)

    def plain() -> int:
        requests = [{"prompt_token_ids": list(p)} for p in prompts]
        outputs = engine.llm.generate(requests, parameters, use_tqdm=False)
        return sum(len(o.token_ids) for output in outputs for o in output.outputs)

    speeds: dict[str, list[float]] = {"rollout=vllm": [], "vLLM generate": []}
    for repeat in range(given.repeats + 1):
        for name, side in (("rollout=vllm", ours), ("vLLM generate", plain)):
            started = time.perf_counter()
            tokens = side()
            if repeat:  # the first turn warms up
                speeds[name].append(tokens / (time.perf_counter() - started))
    pairs = zip(speeds["rollout=vllm"], speeds["vLLM generate"], strict=True)
    return {
        "awake_gib": awake,
        "asleep_gib": asleep,
        "sync_seconds": syncs,
        "largest_probe_gap": max(gaps),
        "tokens_per_second": {name: statistics.median(found) for name, found in speeds.items()},
        "ratio_to_plain": statistics.median(a / b for a, b in pairs),
    }


def table(found: dict[str, Any], given: argparse.Namespace) -> str:
    """Markdown, a row a figure."""
    import torch

    # The first wake-up fills the caches of CUDA and vLLM; a leak would continue after it.
    awake, asleep = found["awake_gib"][1:], found["asleep_gib"][1:]
    speed = found["tokens_per_second"]
    rows = {
        "memory after wake and sync, second and last cycle": f"{awake[0]:.2f} and {awake[-1]:.2f} GiB",
        "memory asleep, second and last cycle": f"{asleep[0]:.2f} and {asleep[-1]:.2f} GiB",
        "weight sync, median": f"{statistics.median(found['sync_seconds']):.3f} s",
        "largest gap of the probe": f"{found['largest_probe_gap']:.3g}",
        "tokens a second, rollout=vllm": f"{speed['rollout=vllm']:,.0f}",
        "tokens a second, vLLM generate": f"{speed['vLLM generate']:,.0f}",
        "against plain vLLM": f"{found['ratio_to_plain']:.2f}",
    }
    lines = ["| figure | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]
    lines += [
        "",
        f"Qwen3-0.6B's shape, random weights, bf16, {given.cycles} cycles; {given.prompts} prompts x "
        f"{given.completions} completions of {given.max_new_tokens} tokens, medians of {given.repeats}; "
        f"{torch.cuda.get_device_name()}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write, or say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.cycles < 2:
        parser.error(f"--cycles={given.cycles} shows no leak: use 20")
    if missing := needs("rollouts.py", free_gib=16, packages=["vllm:'.[vllm]'"]):
        sys.exit(f"error: {missing}")
    found = measure(given)
    text = table(found, given)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
        (given.out / "results.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
