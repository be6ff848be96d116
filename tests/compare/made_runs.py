"""Run folders with known truth, as a training run leaves them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

EPOCHS, PROBLEMS, SAMPLES = 4, 20, 4


def make_run(
    folder: Path,
    algorithm: str = "nft",
    seed: int = 0,
    rise: float = 0.1,
    problem: str = "1+1",
    options: dict[str, Any] | None = None,
    **changed: Any,
) -> Path:
    """A finished run whose accuracy starts at 0.2 and rises by ``rise`` an epoch."""
    folder.mkdir(parents=True)
    made = {
        "algorithm": {"_target_": f"some.{algorithm.upper()}", **(options or {})},
        "optimizer": {"learning_rate": 1e-4},
        "trainer": {"max_epochs": EPOCHS},
        "seed": seed,
        "run_dir": str(folder),
        **changed,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(made))
    (folder / "versions.json").write_text(json.dumps({"torch": "2.13", "conditions": "abcd1234"}))
    (folder / "summary.json").write_text(json.dumps({"algorithm": algorithm, "seed": seed}))
    random = np.random.default_rng([seed, *algorithm.encode()])
    (folder / "evaluations").mkdir()
    for epoch in range(EPOCHS + 1):
        right = random.random((PROBLEMS, SAMPLES)) < 0.2 + rise * epoch
        axes = {
            "epochs": epoch,
            "updates": 4 * epoch,
            "problems": 64 * epoch,
            "tokens": 1e5 * epoch,
            "seconds": 9.0 * epoch,
        }
        table = pa.table(
            {
                "problem_id": [f"{problem}-{i}" for i in range(PROBLEMS) for _ in range(SAMPLES)],
                "verdict": ["correct" if r else "wrong" for r in right.ravel()],
                "length_tokens": [14 + 5 * epoch] * right.size,
                "truncated": [False] * right.size,
            }
        ).replace_schema_metadata({"axes": json.dumps(axes)})
        pq.write_table(table, folder / "evaluations" / f"update_{4 * epoch:06d}.parquet")
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "progress/problems", "policy/entropy_nats", "objective/kl_old_new"])
        for epoch in range(EPOCHS):
            writer.writerow([epoch, 64 * (epoch + 1), 0.5 - 0.1 * epoch, 0.01 * random.random()])
    return folder
