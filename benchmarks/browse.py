"""How long nft-browse takes to answer over a large run.

    python benchmarks/browse.py --out benchmarks/results/browse

The run is made up: groups of 16 with completions of 2,000 characters. Writes ``results.md`` and
``results.json``.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from measuring import facts, save, stated
from starlette.testclient import TestClient

from nft_lightning.browse.app import make_app
from nft_lightning.common.text import markdown
from nft_lightning.records.rollouts import write
from nft_lightning.rollouts.table import ANSWERS, TOKENS

K, PER_FILE, TOKENS_EACH = 16, 8192, 64
ASKED = {
    "list, first time": "/",
    "list, again": "/",
    "last page": "/?page=100000",
    "by verdict and length": "/?verdict=wrong&shortest=900",
    "by text": "/?text=number+77",
    "one group": "/group?part=rollouts&file=epoch_0001&row=160",
}


def make(folder: Path, completions: int) -> None:
    random = np.random.default_rng(0)
    text = "".join(random.choice(list("abcdefgh 0123\n"), 200_000))
    schema = pa.schema([("epoch", pa.int32()), *ANSWERS, *TOKENS])
    for epoch in range(completions // PER_FILE):
        right = random.random(PER_FILE) < 0.4
        at = random.integers(0, len(text) - 2000, PER_FILE)
        group = np.arange(PER_FILE) // K
        share = right.reshape(-1, K).mean(1)[group]
        columns = {
            "epoch": [epoch] * PER_FILE,
            "policy_version": [4 * epoch] * PER_FILE,
            "problem_id": [f"p{g}" for g in group],
            "problem": [f"What is number {g} of the list?" for g in group],
            "gold": ["1"] * PER_FILE,
            "prompt_accuracy": share,
            "sample": np.arange(PER_FILE) % K,
            "completion": [text[i : i + 2000] for i in at],
            "verdict": np.where(right, "correct", "wrong"),
            "extracted": ["1"] * PER_FILE,
            "reward": right.astype(np.float32),
            "length_tokens": random.integers(10, 1000, PER_FILE),
            "truncated": [False] * PER_FILE,
            "token_ids": [[1] * TOKENS_EACH] * PER_FILE,
            "engine_logprobs": [[-0.5] * TOKENS_EACH] * PER_FILE,
        }
        table = pa.table({f.name: pa.array(columns[f.name], f.type) for f in schema})
        write(table, folder / "rollouts" / f"epoch_{epoch:04d}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--completions", type=int, default=409_600)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    pages = []
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), given.completions)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client = TestClient(make_app(Path(name)), base_url="http://127.0.0.1")
        size = sum(p.stat().st_size for p in Path(name).rglob("*.parquet")) / 2**20
        for what, path in ASKED.items():
            started = time.perf_counter()
            answer = client.get(path)
            seconds = time.perf_counter() - started
            assert answer.status_code == 200, answer.text
            pages.append([what, f"{seconds:.2f}", f"{len(answer.content) / 1024:.0f}"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = facts()
    text = (
        f"{given.completions:,} completions, {size:.0f} MiB of Parquet; {stated(made)}\n\n"
        f"{markdown(['page', 'seconds', 'KiB'], pages)}\n"
        f"Peak memory {peak / 2**20:.2f} GiB, of which {before / 2**20:.2f} making the run.\n"
    )
    save(given.out, text, {**made, "completions": given.completions, "mebibytes": size, "pages": pages})


if __name__ == "__main__":
    main()
