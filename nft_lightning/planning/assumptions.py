"""What a plan takes for granted: the GPU, how many, how well they are used, how long answers are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nft_lightning.common.bounds import bounded, check_bounds
from nft_lightning.errors import UserError

GPU_TABLE = Path(__file__).parent / "gpus.json"
FORMATS = ("table", "json")


@dataclass(frozen=True)
class GPU:
    """A type of GPU: GiB that programs can use, dense TFLOPs, GB/s of its memory and to its neighbours.

    ``link_gb_s`` is one way, as is the network's; ``source`` says where the figures are from.
    """

    memory_gib: float
    bf16_tflops: float
    fp32_tflops: float
    memory_gb_s: float
    link_gb_s: float
    source: str


@lru_cache(maxsize=1)
def gpu_table() -> dict[str, GPU]:
    """Return the known types by name."""
    return {name: GPU(**row) for name, row in json.loads(GPU_TABLE.read_text()).items()}


@dataclass(frozen=True)
class Assumptions:
    """The ``plan`` node.

    Attributes:
        gpu: a type of ``planning/gpus.json``.
        gpus: how many; None is ``trainer.devices`` times ``trainer.num_nodes``.
        gpus_per_node: those that are linked; beyond them goes the network.
        training_utilization, prefill_utilization: FLOPs done of the type's dense peak, recomputation
            counted as done.
        decode_bandwidth_utilization: of the memory's bandwidth while tokens are written.
        link_utilization: of links and network.
        network_gb_s: of each GPU to other nodes, one way; 50 is 400 Gbit/s.
        mean_response_tokens: None is three tenths of ``rollout.max_new_tokens``.
        mean_prompt_tokens, longest_prompt_tokens: prompts, template included.
        uniform_fraction: groups that are all right or all wrong, which dynamic sampling replaces.
        overhead_gib: CUDA context, communication and fragments on each GPU.
        format: table or json.
    """

    gpu: str = "h100"
    gpus: int | None = bounded(None, least=1)
    gpus_per_node: int = bounded(8, least=1)
    training_utilization: float = bounded(0.4, above=0, most=1, use="0.4 or the like")
    prefill_utilization: float = bounded(0.5, above=0, most=1, use="0.5 or the like")
    decode_bandwidth_utilization: float = bounded(0.6, above=0, most=1, use="0.6 or the like")
    link_utilization: float = bounded(0.7, above=0, most=1, use="0.7 or the like")
    network_gb_s: float = bounded(50.0, above=0, use="50.0")
    mean_response_tokens: int | None = bounded(None, least=1)
    mean_prompt_tokens: int = bounded(150, least=1)
    longest_prompt_tokens: int = 512
    uniform_fraction: float = bounded(0.4, least=0, below=1, use="0.4")
    overhead_gib: float = bounded(2.5, least=0, use="2.5")
    format: str = bounded("table", choices=FORMATS)

    def __post_init__(self) -> None:
        if self.gpu not in gpu_table():
            raise UserError(
                "plan.gpu", self.gpu, "is not in the table", f"use one of {', '.join(gpu_table())}"
            )
        check_bounds(self, "plan")
        if self.longest_prompt_tokens < self.mean_prompt_tokens:
            raise UserError(
                "plan.longest_prompt_tokens",
                self.longest_prompt_tokens,
                f"is below plan.mean_prompt_tokens={self.mean_prompt_tokens}",
                "use more",
            )

    @property
    def type(self) -> GPU:
        """Return the row of the table."""
        return gpu_table()[self.gpu]
