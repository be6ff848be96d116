"""Groups as Parquet rows, one a completion, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from nft_lightning.types import Completion, Group, Problem, Verdict

ANSWERS = (
    ("policy_version", pa.int64()),
    ("problem_id", pa.string()),
    ("problem", pa.string()),
    ("gold", pa.string()),
    ("prompt_accuracy", pa.float32()),
    ("sample", pa.int32()),
    ("completion", pa.string()),
    ("verdict", pa.string()),
    ("extracted", pa.string()),
    ("reward", pa.float32()),
    ("length_tokens", pa.int32()),
    ("truncated", pa.bool_()),
)
TOKENS = (("token_ids", pa.list_(pa.int32())), ("engine_logprobs", pa.list_(pa.float32())))


def rollout_file(run_dir: str | Path, epoch: int) -> Path:
    """Return where the rollout of an epoch is recorded."""
    return Path(run_dir) / "rollouts" / f"epoch_{epoch:04d}.parquet"


def answers(groups: Iterable[Group], more: Sequence[tuple[str, Any]] = ()) -> pa.Table:
    """Return groups as rows, one a completion; ``more`` adds columns of ``TOKENS``."""
    rows = [
        {
            "policy_version": completion.policy_version,
            "problem_id": group.problem.id,
            "problem": group.problem.text,
            "gold": group.problem.answer,
            "prompt_accuracy": group.accuracy,
            "sample": k,
            "completion": completion.text,
            "verdict": verdict.outcome,
            "extracted": verdict.extracted,
            "reward": reward,
            "length_tokens": len(completion.token_ids),
            "truncated": completion.truncated,
            "token_ids": completion.token_ids,
            "engine_logprobs": completion.logprobs,
        }
        for group in groups
        for k, (completion, verdict, reward) in enumerate(
            zip(group.completions, group.verdicts, group.rewards, strict=True)
        )
    ]
    return pa.Table.from_pylist(rows, pa.schema([*ANSWERS, *more]))


def groups_of(table: pa.Table, encode: Callable[[str], tuple[int, ...]]) -> list[Group]:
    """Return the groups of the rows of :func:`answers` with ``TOKENS``.

    Their problems have no worked answers and no further columns: those are not in the rows.

    Args:
        encode: the prompt of a problem's text, which is not there either.
    """
    token_ids, logprobs = arrays(table["token_ids"]), arrays(table["engine_logprobs"])
    rows = table.drop_columns(["token_ids", "engine_logprobs"]).to_pylist()
    starts = [i for i, row in enumerate(rows) if row["sample"] == 0]
    groups = []
    for start, stop in pairwise([*starts, len(rows)]):
        completions = []
        for i in range(start, stop):
            row = rows[i]
            text, truncated, version = row["completion"], row["truncated"], row["policy_version"]
            completions.append(Completion(token_ids[i], text, logprobs[i], truncated, version))
        own, first = rows[start:stop], rows[start]
        verdicts = tuple(Verdict(row["verdict"], row["extracted"]) for row in own)
        rewards = tuple(float(row["reward"]) for row in own)
        problem = Problem(first["problem_id"], first["problem"], first["gold"])
        prompt = encode(first["problem"])
        groups.append(Group(problem, prompt, tuple(completions), verdicts, rewards))
    return groups


def arrays(column: pa.ChunkedArray) -> list[npt.NDArray[Any]]:
    """Return a column of lists as arrays, row by row."""
    whole = column.combine_chunks()
    flat, edges = whole.values.to_numpy(zero_copy_only=False), whole.offsets.to_numpy()
    return [flat[a:b] for a, b in pairwise(edges)]
