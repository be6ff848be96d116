"""nft-plan against memory that prime-rl publishes for its trainer on H100.

python benchmarks/plan_published.py [--out DIR]

Theirs: PrimeIntellect-ai/prime-rl at 559b447, benchmarks/baselines, the files of type rl with layers
recomputed: FSDP2 with fp32 masters, gradients summed in fp32, bf16 products, a tiled head, compiled
layers, two micro-batches of one row a step; the figure is the most memory that torch's allocator
reserved, of which it used a little less. Ours: the same setting, not compiled, nothing reserved beyond
what is used.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from omegaconf import open_dict

from nft_lightning.app.quiet import quiet_libraries
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.planning.plan import as_data, plan_of

# Model, GPUs, rank of LoRA, tokens of a micro-batch, GiB.
PUBLISHED = (
    ("Qwen/Qwen3-0.6B", 1, 0, 16_384, 12.528),
    ("Qwen/Qwen3-0.6B", 1, 0, 65_536, 19.561),
    ("Qwen/Qwen3-0.6B", 1, 16, 16_384, 5.146),
    ("Qwen/Qwen3-4B", 1, 16, 16_384, 23.303),
    ("Qwen/Qwen3-4B", 8, 0, 16_384, 17.096),
    ("Qwen/Qwen3-4B", 8, 0, 65_536, 36.105),
)


def planned(model: str, gpus: int, rank: int, tokens: int) -> float:
    """GiB of forward and backward; rows of 16,384 tokens, whose memory is that of one longer row."""
    cfg = compose_or_explain(
        "plan",
        [
            "model=hf",
            f"model.path={model}",
            "trainer=gpu",
            "+trainer.strategy=fsdp2",
            "rollout=vllm_server",
            "policy.logprobs=fused",
            f"plan.gpus={gpus}",
            "plan.longest_prompt_tokens=1",
            "plan.mean_prompt_tokens=1",
            "rollout.max_new_tokens=16383",
            f"batching.max_tokens_per_micro_batch={tokens}",
        ],
    )
    with open_dict(cfg):
        cfg.policy.gradient_checkpointing, cfg.policy.lora_rank = True, rank
    return float(as_data(plan_of(cfg))["memory_gib"]["forward and backward"]["total"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/plan"))
    out = parser.parse_args().out
    quiet_libraries()
    rows = []
    for model, gpus, rank, tokens, gib in PUBLISHED:
        own = planned(model, gpus, rank, tokens)
        rows.append(
            {
                "model": model,
                "H100": gpus,
                "trains": f"LoRA of rank {rank}" if rank else "all weights",
                "tokens": tokens,
                "published_gib": gib,
                "planned_gib": round(own, 2),
                "planned_over_published": round(own / gib, 3),
            }
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "published.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(map(str, r.values())) for r in rows)]
    (out / "published.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


if __name__ == "__main__":
    main()
