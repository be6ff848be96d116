"""Rows end to end by flash attention against padded rows by SDPA; fused against plain log-probabilities.

    python benchmarks/gpu/attention.py --out benchmarks/results/gpu_attention

Needs one NVIDIA GPU with 36 GiB free (42 for the row of plain log-probabilities, which says so) and, for
its main row, ``pip install flash-attn``; nothing is downloaded. Qwen3-0.6B's shape with random weights
in bf16, on answers of a long-tailed length, laid out in micro-batches as nft-train does: the same for
all ways. Their log-probabilities and gradients are compared with those of the same weights in fp32, and
with the base, which is padded, by SDPA, fused, in bf16. What the base differs from fp32 is bf16's
rounding: a way is right if it differs no more.

    python benchmarks/gpu/attention.py --rehearse

runs the whole with a tiny model in fp32 on a CPU.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from common import GIB, SHAPES, needs, parser, random_model, write


class Way(NamedTuple):
    """``model.attention``, ``policy.padding_free`` and ``policy.logprobs``."""

    attention: str
    padding_free: bool
    logprobs: str

    @property
    def name(self) -> str:
        return f"{'end to end' if self.padding_free else 'padded'}, {self.attention}, {self.logprobs}"


BASE = Way("sdpa", False, "fused")
WAYS = (
    BASE,
    Way("sdpa", False, "plain"),
    Way("sdpa", True, "fused"),
    Way("flash_attention_2", True, "fused"),
)


class Found(NamedTuple):
    """Of one way: [n] log-probabilities of all micro-batches, gradients by name, seconds and bytes."""

    logprobs: Any
    gradients: dict[str, Any]
    seconds: float
    peak_bytes: float


def micro_batches(given: argparse.Namespace, vocabulary: int) -> list[Any]:
    """Token batches as nft-train lays them out: answers of a long tail, cut at the longest."""
    import torch

    from nft_lightning.batching import layout
    from nft_lightning.types import Completion, Signal

    draw, rows = random.Random(0), []
    for i in range(given.rows):
        prompt, answer = (
            tuple(draw.randrange(4, vocabulary) for _ in range(count))
            for count in (
                draw.randint(*given.prompts),
                min(given.longest, int(draw.lognormvariate(given.mu, 0.9)) + 1),
            )
        )
        completion = Completion(answer, "", (0.0,) * len(answer), False, 0)
        rows.append(layout.Row(prompt, completion, 1.0, i, i))
    parts = layout.micro_batches(rows, given.budget, 0, 1, False)
    return [layout.token_batch(part, Signal({}, torch.ones(len(rows))), 0) for part in parts]


def unavailable(way: Way) -> str | None:
    """Why nft-train would refuse it here."""
    import torch

    from nft_lightning.errors import UserError
    from nft_lightning.policy.loading import HFModel

    try:
        HFModel("any", attention=way.attention)
    except UserError as error:
        return str(error)
    if way.attention == "flash_attention_2" and not torch.cuda.is_available():
        return "flash attention needs CUDA."
    return None


def policy_of(way: Way, shape: str, dtype: Any, device: str) -> Any:
    """A policy of the same random weights each time; an error where rows end to end see each other."""
    from nft_lightning.policy.config import PolicyConfig
    from nft_lightning.policy.loading import finish

    plan = PolicyConfig(logprobs=way.logprobs, padding_free=way.padding_free)
    policy = finish(*random_model(shape, dtype, device, way.attention), 1.0).eval()
    policy.fused = plan.fused(policy.model, 1.0)
    policy.padding_free = plan.free_of_padding(policy)
    return policy


def one_pass(policy: Any, batches: Sequence[Any]) -> list[Any]:
    """Forward and backward of all; each token's log-probability has a weight of its own."""
    import torch

    count = sum(int(batch.mask.sum()) for batch in batches)
    found = []
    for batch in batches:
        out = policy(batch).logprobs[batch.mask]
        wave = torch.sin(torch.arange(len(out), device=out.device))
        ((out * wave).sum() / count).backward()
        found.append(out.detach())
    return found


def measure(policy: Any, batches: Sequence[Any], device: str, repeats: int) -> Found:
    """A pass that warms up, then ``repeats`` in time."""
    import torch
    from watch import peaks

    cuda, seconds = device == "cuda", []
    batches = [batch.to(device) for batch in batches]
    for repeat in range(repeats + 1):
        policy.zero_grad()
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        logprobs = one_pass(policy, batches)
        if cuda:
            torch.cuda.synchronize()
        if repeat:
            seconds.append(time.perf_counter() - started)
    peak = peaks(torch.device(device))["allocated_bytes"]
    gradients = {n: p.grad.float().cpu() for n, p in policy.named_parameters() if p.grad is not None}
    return Found(torch.cat(logprobs).float().cpu(), gradients, statistics.median(seconds), peak)


def apart(one: Found, other: Found) -> dict[str, float]:
    """Differences: log-probabilities in nats; gradients, the greatest and by the norm of ``one``'s."""
    pairs = [(one.gradients[n], other.gradients[n]) for n in one.gradients]
    gap = (one.logprobs - other.logprobs).abs()
    square = sum(float((a - b).square().sum(dtype=a.dtype)) for a, b in pairs)
    whole = sum(float(a.square().sum()) for a, _ in pairs)
    return {
        "logprob_max": float(gap.max()),
        "logprob_mean": float(gap.mean()),
        "gradient_max": max(float((a - b).abs().max()) for a, b in pairs),
        "gradient_norm_ratio": (square / whole) ** 0.5,
    }


def rows_of(given: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each way, and what the micro-batches are like."""
    import torch

    device, dtype = ("cpu", torch.float32) if given.rehearse else ("cuda", torch.bfloat16)
    shape = "rehearsal" if given.rehearse else "qwen3_0.6b"
    batches = micro_batches(given, SHAPES[shape]["vocab_size"])
    tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
    padded = sum(batch.attention_mask.numel() for batch in batches)
    exact = measure(policy_of(BASE, shape, torch.float32, device), batches, device, 1)
    rows: list[dict[str, Any]] = []
    base: Found | None = None
    for way in WAYS:
        row: dict[str, Any] = {"way": way.name}
        rows.append(row)
        if said := unavailable(way):
            row["not_run"] = said
            continue
        try:
            found = measure(policy_of(way, shape, dtype, device), batches, device, given.repeats)
        except torch.OutOfMemoryError as error:
            row["not_run"] = str(error).splitlines()[0].split(". ")[0]
            torch.cuda.empty_cache()
            continue
        base = base or found
        row |= {
            "from_fp32": apart(exact, found),
            "from_base": apart(base, found),
            "tokens_per_second": tokens / found.seconds,
            "peak_gib": found.peak_bytes / GIB,
        }
        sys.stderr.write(f"{way.name}: done\n")
    about = {"micro_batches": len(batches), "tokens": tokens, "padding_fraction": 1 - tokens / padded}
    return rows, about


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of results.md."""
    if "not_run" in row:
        return {"way": row["way"], "tokens a second": f"not run: {row['not_run']}"}
    exact, base = row["from_fp32"], row["from_base"]
    return {
        "way": row["way"],
        "tokens a second": f"{row['tokens_per_second']:,.0f}",
        "peak GiB": f"{row['peak_gib']:.2f}",
        "log-prob to fp32, greatest (mean)": f"{exact['logprob_max']:.1e} ({exact['logprob_mean']:.1e})",
        "to the base": f"{base['logprob_max']:.1e} ({base['logprob_mean']:.1e})",
        "gradient to fp32, of its norm (greatest)": f"{exact['gradient_norm_ratio']:.1e} "
        f"({exact['gradient_max']:.1e})",
        "gradient to the base": f"{base['gradient_norm_ratio']:.1e} ({base['gradient_max']:.1e})",
    }


def main() -> None:
    """Measure and write, or say what is missing."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=None, help="answers: 64, in a rehearsal 12")
    options.add_argument(
        "--budget", type=int, default=None, help="padded tokens of a micro-batch: 8192, 256"
    )
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    missing = None if given.rehearse else needs("attention.py", free_gib=36)
    if missing:
        sys.exit(f"error: {missing}")
    given.rows = given.rows or (12 if given.rehearse else 64)
    given.budget = given.budget or (256 if given.rehearse else 8192)
    # Answers of some 500 tokens, one in twenty beyond 2,000.
    tail = (3.0, 128, (4, 9)) if given.rehearse else (6.2, 4096, (30, 200))
    given.mu, given.longest, given.prompts = tail
    rows, about = rows_of(given)
    text = (
        f"{'A tiny shape' if given.rehearse else 'The shape of Qwen3-0.6B'}, random weights, "
        f"{'fp32' if given.rehearse else 'bf16'}; {given.rows} answers, {about['tokens']:,} tokens in "
        f"{about['micro_batches']} micro-batches of at most {given.budget:,}, "
        f"{about['padding_fraction']:.1%} padding where padded; the base is the first row; medians of "
        f"{given.repeats};"
    )
    write(given, {**about, "rows": rows}, text, [shown(row) for row in rows])


if __name__ == "__main__":
    main()
