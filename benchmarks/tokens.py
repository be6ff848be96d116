"""What tokens and their log-probabilities cost between the engine and the batch.

    python benchmarks/tokens.py --out benchmarks/results/tokens --name LABEL

One rollout as ``rollout=hf`` leaves it: ``--rows`` completions of ``--length`` random tokens, 8 a
problem, behind prompts of 64 tokens. Held is what the completions allocate (tracemalloc); gathered is
what one of two ranks pickles, half of the groups. Seconds are the processor's, the least of the
rounds. Adds a line to ``results.json``, and writes ``results.md`` from all lines.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from measuring import facts, python, save

from nft_lightning.batching.layout import layout
from nft_lightning.common.text import markdown
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.records.rollouts import TOKENS, answers
from nft_lightning.rollouts.serialized import pack_rollout, unpack_rollout
from nft_lightning.types import Group, Problem, Rollout, Signal, Verdict

VOCABULARY, PROMPT, SAMPLES = 151_936, 64, 8


def engine_tensors(rows: int, length: int) -> list[torch.Tensor]:
    """Tokens, log-probabilities, lengths and whether a row ended, as the sampler leaves them."""
    made = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, VOCABULARY, (rows, length), generator=made),
        -torch.rand(rows, length, generator=made),
        torch.full((rows,), length),
        torch.ones(rows, dtype=torch.bool),
    ]


def completions(tensors: list[torch.Tensor]) -> list[Any]:
    """What the engine makes of its tensors, with empty texts."""
    tokenizer = SimpleNamespace(batch_decode=lambda ids, **_: [""] * len(ids))
    engine: Any = SimpleNamespace(tokenizer=tokenizer, policy_version=0)
    seeds = [[0] * SAMPLES] * (len(tensors[0]) // SAMPLES)
    return HFEngine.collect(engine, seeds, *tensors)


def rollout_of(answered: list[Any]) -> Rollout:
    prompt = tuple(range(10_000, 10_000 + PROMPT))
    verdicts = (Verdict("correct"), *[Verdict("wrong")] * (SAMPLES - 1))
    rewards = (1.0, *[0.0] * (SAMPLES - 1))
    return Rollout(
        tuple(
            Group(Problem(str(i), "", ""), (i, *prompt[1:]), tuple(group), verdicts, rewards)
            for i, group in enumerate(answered)
        ),
        0,
    )


def held(make: Callable[[], Any]) -> int:
    """Bytes that the result of ``make`` keeps."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = make()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return after - before


def seconds(work: Callable[[], Any], rounds: int) -> float:
    found = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def batches(rollout: Rollout, rows: int) -> Any:
    signal = Signal({"reward": rollout.rewards}, torch.ones(rows, dtype=torch.bool))
    return layout(
        rollout,
        signal,
        updates=4,
        max_tokens_per_micro_batch=16_384,
        reduction="token_mean",
        max_new_tokens=4096,
        seed=0,
    )


def measured(rows: int, length: int, rounds: int) -> dict[str, float]:
    """Bytes a token, and seconds of each step on the way."""
    tensors = engine_tensors(rows, length)
    rollout = rollout_of(completions(tensors))
    half = rollout.groups[: len(rollout.groups) // 2]
    sent = pickle.dumps((list(half), None))
    stored = io.BytesIO()
    packed = pack_rollout(rollout)
    torch.save(packed, stored)
    tokens = rows * length
    return {
        "held_bytes_a_token": held(lambda: completions(tensors)) / tokens,
        "gathered_bytes_a_token": len(sent) / (tokens / 2),
        "checkpoint_bytes_a_token": len(stored.getvalue()) / tokens,
        "engine_seconds": seconds(lambda: completions(tensors), rounds),
        "gather_seconds": seconds(lambda: pickle.loads(pickle.dumps((list(half), None))), rounds),
        "batch_seconds": seconds(lambda: batches(rollout, rows), rounds),
        "parquet_seconds": seconds(lambda: answers(rollout.groups, TOKENS), rounds),
        "checkpoint_seconds": seconds(lambda: unpack_rollout(pack_rollout(rollout)), rounds),
    }


def described() -> dict[str, str]:
    """Commit, date, machine and versions of a measurement."""
    versions = f"{python()}, torch {torch.__version__}, numpy {np.__version__}"
    return {**facts("one thread"), "versions": versions}


def table(lines: list[dict[str, Any]]) -> str:
    columns = list(lines[0]["figures"])
    heads = ["tokens as", "commit", "rows x tokens", *[c.replace("_", " ") for c in columns]]
    rows = [
        [line["name"], line["commit"], line["size"], *[f"{line['figures'][c]:.3g}" for c in columns]]
        for line in lines
    ]
    last = lines[-1]
    timed = f"processor seconds, least of {last['rounds']}"
    about = f"{last['machine']}; {last['versions']}; {last['date']}; {timed}"
    return f"{about}\n\n{markdown(heads, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(given.rows, given.length, given.rounds)
    size = f"{given.rows} x {given.length}"
    known = given.out / "results.json"
    lines = json.loads(known.read_text()) if known.exists() else []
    lines = [line for line in lines if (line["name"], line["size"]) != (given.name, size)]
    lines.append(
        {"name": given.name, "size": size, "rounds": given.rounds, **described(), "figures": found}
    )
    save(given.out, table(lines), lines)


if __name__ == "__main__":
    main()
