"""Memory of training steps on this CPU, measured and as nft-plan has it.

python benchmarks/plan_memory.py [--quick] [--out DIR]

Each case is a micro-batch through the policy, an AdamW step, two micro-batches and another step. The
measured peak is that of torch's own allocator, by the profiler's record of every allocation.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from nft_lightning.planning.architecture import architecture
from nft_lightning.planning.memory import MASTER_BYTES
from nft_lightning.planning.trace import Pass, cost
from nft_lightning.policy.logprobs import Head
from nft_lightning.policy.policy import Policy
from nft_lightning.training.optimizer import MasterAdamW
from nft_lightning.types import TokenBatch

QWEN = {"model_type": "qwen2", "num_key_value_heads": 2, "max_position_embeddings": 4096}
SHAPES = {
    "5M": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 5, "vocab_size": 4096},
    "17M": {"hidden_size": 320, "intermediate_size": 896, "num_hidden_layers": 6, "vocab_size": 16384},
    "25M": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "vocab_size": 4096},
}
# Rows and width of a micro-batch, tokens of the prompt.
BATCHES = {256: (2, 128, 32), 1024: (4, 256, 64)}


def build(shape: dict[str, int], folder: Path) -> str:
    """A config on disk, as both sides read it."""
    options = {**QWEN, **shape, "num_attention_heads": shape["hidden_size"] // 32}
    AutoConfig.for_model(**options).save_pretrained(folder)
    return str(folder)


def batch(rows: int, width: int, prompt: int, vocabulary: int) -> TokenBatch:
    mask = torch.zeros(rows, width - 1, dtype=torch.bool)
    mask[:, prompt - 1 :] = True
    ids = torch.randint(0, vocabulary, (rows, width))
    zeros = torch.zeros(rows, width - 1)
    return TokenBatch(ids, torch.ones_like(ids), mask, mask / mask.sum(), zeros, {})


def steps(model_path: str, case: Pass, shape: dict[str, int]) -> None:
    """What is measured, from the model's making on."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_path), dtype=case.dtype)
    if case.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if case.lora_rank:
        model = get_peft_model(model, LoraConfig(r=case.lora_rank, target_modules="all-linear"))
    model.train()
    policy = Policy(model, None)
    policy.fused = Head() if case.fused else None
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = MasterAdamW([{"params": trained}], lr=1e-4)
    micro = batch(case.rows, case.width, case.prompt, shape["vocab_size"])
    for passes in (1, 2):
        for _ in range(passes):
            with torch.autocast("cpu", torch.bfloat16, case.autocast is not None, cache_enabled=False):
                (policy(micro).logprobs * micro.token_weight).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def measured(model_path: str, case: Pass, shape: dict[str, int]) -> float:
    """Peak bytes by the allocator's record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        steps(model_path, case, shape)
    live = peak = 0
    for event in sorted(found.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return float(peak)


def planned(case: Pass) -> float:
    """Weights, gradients, AdamW's two states, masters of what is narrower, and the pass."""
    size, passing, shape = case.dtype.itemsize, cost(case), architecture(case.model)
    trained = shape.lora_parameters(case.lora_rank) if case.lora_rank else shape.parameters
    own = MASTER_BYTES if case.lora_rank else size
    states = 2 * MASTER_BYTES + (MASTER_BYTES if own < MASTER_BYTES else 0)
    weights = size * shape.parameters + (own * trained if case.lora_rank else 0)
    return weights + (own + states) * trained + passing.activations + passing.logits


def cases(folder: Path) -> list[tuple[str, dict[str, int], Pass]]:
    found = []
    for name, shape in SHAPES.items():
        path = build(shape, folder / name)
        for rows, width, prompt in BATCHES.values():
            base = {"model": path, "rows": rows, "width": width, "prompt": prompt}
            found += [(name, shape, Pass(**base, fused=fused)) for fused in (False, True)]
    name, shape = next(iter(SHAPES.items()))
    rows, width, prompt = BATCHES[1024]
    base = {"model": str(folder / name), "rows": rows, "width": width, "prompt": prompt}
    found.append((name, shape, Pass(**base, checkpointing=True)))
    found.append((name, shape, Pass(**base, autocast=torch.bfloat16)))
    found.append((name, shape, Pass(**base, dtype=torch.bfloat16)))
    found.append((name, shape, Pass(**base, lora_rank=8)))
    return found


def precision(case: Pass) -> str:
    """By the trainer's name."""
    if case.autocast:
        return "bf16-mixed"
    return "bf16-true" if case.dtype == torch.bfloat16 else "32-true"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="the larger models with 256 tokens alone")
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, shape, case in cases(Path(folder)):
            if given.quick and name != "5M" and case.rows * case.width > 256:
                continue
            real, plan = measured(case.model, case, shape), planned(case)
            rows.append(
                {
                    "model": name,
                    "tokens": case.rows * case.width,
                    "logprobs": "fused" if case.fused else "plain",
                    "checkpointing": case.checkpointing,
                    "lora_rank": case.lora_rank,
                    "precision": precision(case),
                    "measured_mib": round(real / 2**20, 1),
                    "planned_mib": round(plan / 2**20, 1),
                    "planned_over_measured": round(plan / real, 3),
                }
            )
    if given.out is None:
        json.dump(rows, sys.stdout, indent=1)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "memory.json").write_text(json.dumps(rows, indent=1) + "\n")
    head = list(rows[0])
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(r[k]) for k in head)} |" for r in rows]
    (given.out / "memory.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
