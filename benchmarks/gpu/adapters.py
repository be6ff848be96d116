"""LoRA and QLoRA with vLLM on one GPU: adapters that travel alone against weights that are merged first.

    python benchmarks/gpu/adapters.py --out benchmarks/results/gpu_adapters

Needs one NVIDIA GPU with 24 GiB free and ``pip install '.[vllm,lora,bitsandbytes]'``;
nothing is downloaded. Each row is four epochs of nft-train with vLLM beside the trainer, on
Qwen3-0.6B's layers with random weights and the embedded policy's vocabulary; medians without the first
epoch. MiB are what a weight sync moves; the probe tells how far engine and trainer are apart after
it, and tokens a second what vLLM's own product of the adapters costs. Takes less than five minutes.

    python benchmarks/gpu/adapters.py --rehearse --problems 4 --completions 2

runs the whole with a tiny model on a CPU.
"""

from __future__ import annotations

import sys

from common import needs, write
from vllm_runs import Runs, options_of, rows_of, shown

LORA, QLORA = ["policy.lora_rank=16"], ["policy.lora_rank=16", "policy.quantize=4bit"]
ALONE = ["rollout.engine.adapters=alone"]


def main() -> None:
    """Measure and write, or say what is missing."""
    options = options_of(__doc__)
    given = options.parse_args()
    packages = ["vllm:'.[vllm]'", "peft:'.[lora]'"]
    missing = None if given.rehearse else needs("adapters.py", 1, 24, packages)
    if missing:
        sys.exit(f"error: {missing}")
    trainer = "trainer=cpu" if given.rehearse else "trainer=gpu"
    runs: Runs = {
        "all weights": ([trainer], 1),
        "LoRA, merged": ([trainer, *LORA], 1),
        "LoRA, alone": ([trainer, *LORA, *ALONE], 1),
        "QLoRA, merged": ([trainer, *QLORA], 1),
        "QLoRA, alone": ([trainer, *QLORA, *ALONE], 1),
    }
    rows = rows_of(given, "policy", runs)
    about = f"{given.problems} problems x {given.completions} completions, rank 16;"
    write(given, {"rows": rows}, about, [shown(row, "policy") for row in rows])


if __name__ == "__main__":
    main()
