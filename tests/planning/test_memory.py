"""Memory on paper against memory measured, here and elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRIME_RL = {16_384: 12.528, 65_536: 19.561}
PRIME_RL_COMMAND = (
    "model=hf",
    "model.path=Qwen/Qwen3-0.6B",
    "trainer=gpu",
    "+trainer.strategy=fsdp2",
    "policy.logprobs=fused",
    "rollout=vllm_server",
    "plan.longest_prompt_tokens=1",
    "plan.mean_prompt_tokens=1",
    "rollout.plan.max_new_tokens=16383",
)


@pytest.mark.slow
def test_memory_is_within_15_percent_of_what_is_measured():
    command = [sys.executable, str(ROOT / "benchmarks" / "plan_memory.py"), "--quick"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert {r["logprobs"] for r in rows} == {"plain", "fused"}
    assert len({r["model"] for r in rows}) == 3
    assert {r["tokens"] for r in rows} == {512, 1024}
    for row in rows:
        assert row["planned_over_measured"] == pytest.approx(1, abs=0.15), row


@pytest.mark.parametrize(("tokens", "gib"), PRIME_RL.items())
def test_memory_is_within_10_percent_of_what_prime_rl_publishes(plan, tokens, gib):
    # Its trainer: FSDP2 on one H100, fp32 masters, bf16 products, layers recomputed, a tiled head.
    planned = plan(
        *PRIME_RL_COMMAND,
        f"batching.max_tokens_per_micro_batch={tokens}",
        checkpointing=True,
    )["memory_gib"]["forward and backward"]["total"]
    assert planned == pytest.approx(gib, rel=0.1)
