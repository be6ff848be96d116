"""One training step with each option that saves memory: peak memory and seconds, as ratios to none.

python benchmarks/memory.py --out DIR [--tokens 1024] [--rounds 3]

A policy of random weights on padded rows; forward, backward, clipping and AdamW's step. Each option runs
in processes of its own, one after the other in turn; memory is the peak of the process over what it held
before the model was made; seconds are the processor's, of the second step, without compiling,
and the smallest of the rounds.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from measuring import in_turn, save
from transformers import LlamaConfig, LlamaForCausalLM

from nft_lightning.batching.layout import Row, token_batch
from nft_lightning.distributed.shards import clip_gradients
from nft_lightning.policy.config import PolicyConfig
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.precision import cast_to_half
from nft_lightning.training.config import OptimizerConfig
from nft_lightning.training.optimizer import built_optimizer
from nft_lightning.types import Completion, Signal

SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
}
ROW_TOKENS = 128
WAYS = {
    "none": {},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "lora_rank=16": {"lora_rank": 16},
    "lora_rank=16, gradient_checkpointing": {"lora_rank": 16, "gradient_checkpointing": True},
    "precision=bf16-mixed": {},
    "precision=bf16-true": {},
    "compile": {"compile": True},
}


def measure(way: str, tokens: int) -> None:
    torch.manual_seed(0)
    rows = [
        Row(
            (1,),
            Completion(torch.randint(2, 4096, (ROW_TOKENS - 1,)).numpy(), "", np.zeros(127), False, 0),
            1.0,
            i,
            i,
        )
        for i in range(tokens // ROW_TOKENS)
    ]
    batch = token_batch(rows, Signal({}, torch.ones(len(rows))), 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = PolicyConfig(logprobs="fused", **WAYS[way])
    policy = Policy(LlamaForCausalLM(LlamaConfig(**SHAPE)).eval(), None)
    if way.endswith("true"):
        cast_to_half(policy.model, torch.bfloat16)
    policy.model = plan.with_adapters(policy.model)
    policy.fused = plan.fused(policy.model, 1.0)
    plan.save_memory(policy.model)
    optimizer = built_optimizer(OptimizerConfig(), [policy], [1e-4])
    cast = torch.autocast("cpu", torch.bfloat16) if way.endswith("mixed") else nullcontext()
    for _ in range(2):
        started = time.process_time()
        with cast:
            out = policy(batch)
        (-out.logprobs.sum() / tokens).backward()
        clip_gradients(policy, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"seconds": seconds, "mib": peak / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way")
    given = parser.parse_args()
    if given.way:
        measure(given.way, given.tokens)
        return
    found = in_turn(__file__, list(WAYS), given.tokens, given.rounds)
    least = {
        way: {k: min(r[k] for r in results) for k in ("seconds", "mib")}
        for way, results in found.items()
    }
    base = least["none"]
    lines = [
        f"{given.tokens} tokens in rows of {ROW_TOKENS}, {SHAPE}, threads {torch.get_num_threads()}, "
        f"least of {given.rounds}",
        "",
        "| option | processor seconds a step | time ratio | peak MiB | memory ratio |",
        "|---|---|---|---|---|",
        *(
            f"| {way} | {row['seconds']:.2f} | {row['seconds'] / base['seconds']:.2f} | "
            f"{row['mib']:.0f} | {row['mib'] / base['mib']:.2f} |"
            for way, row in least.items()
        ),
    ]
    save(given.out, "\n".join(lines) + "\n", name="cpu")


if __name__ == "__main__":
    main()
