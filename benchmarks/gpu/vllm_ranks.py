"""vLLM in every rank on GPUs: one policy on all of them, a copy of vLLM each or one that they share.

    python benchmarks/gpu/vllm_ranks.py --devices 2 --out benchmarks/results/gpu_vllm_ranks

Needs two NVIDIA GPUs or more (``--devices``) with 24 GiB free each and
``pip install '.[vllm]'``; nothing is downloaded. Each row is four epochs of nft-train on
Qwen3-0.6B's layers with random weights and the embedded policy's vocabulary; medians without the first
epoch. Every rollout begins with the run's own check that all ranks hold equal weights, every sync ends
with the proof that each copy plays them: a row with figures has passed both. Takes less than five
minutes.

    python benchmarks/gpu/vllm_ranks.py --rehearse --problems 4 --completions 2

runs the whole with a tiny model on a CPU.
"""

from __future__ import annotations

import sys

from common import needs, write
from vllm_runs import Runs, options_of, rows_of, shown


def main() -> None:
    """Measure and write, or say what is missing."""
    options = options_of(__doc__)
    options.add_argument("--devices", type=int, default=2, help="ranks, a GPU each")
    given = options.parse_args()
    packages = ["vllm:'.[vllm]'"]
    missing = None if given.rehearse else needs("vllm_ranks.py", given.devices, 24, packages)
    if missing:
        sys.exit(f"error: {missing}")
    precision = "trainer.precision=32-true" if given.rehearse else "trainer.precision=bf16-mixed"
    together = f"rollout.engine.tensor_parallel_size={given.devices}"
    ranks = given.devices
    runs: Runs = {
        "one process": (["trainer=cpu", precision], 1),
        "ddp, a copy a rank": (["trainer=ddp", precision], ranks),
        "ddp, one copy": (["trainer=ddp", precision, together], ranks),
        "fsdp2, a copy a rank": (["trainer=fsdp2", precision], ranks),
    }
    rows = rows_of(given, "ranks", runs)
    about = f"{ranks} ranks; {given.problems} problems x {given.completions} completions;"
    write(given, {"rows": rows}, about, [shown(row, "ranks") for row in rows])


if __name__ == "__main__":
    main()
