"""Groups as Parquet rows, one a completion, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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


def groups_of(table: pa.Table) -> list[list[dict[str, Any]]]:
    """Return the rows of :func:`answers` with ``TOKENS``, group by group."""
    found: list[list[dict[str, Any]]] = []
    for row in table.to_pylist():
        if row["sample"] == 0:
            found.append([])
        found[-1].append(row)
    return found


def group_of(rows: Sequence[dict[str, Any]], prompt_ids: tuple[int, ...]) -> Group:
    """Return the group of some rows of one problem.

    Its problem has no worked answer and no further columns: those are not in the rows.

    Args:
        prompt_ids: the prompt that was asked, which is not there either.
    """
    first = rows[0]
    completions = tuple(
        Completion(
            tuple(row["token_ids"]),
            row["completion"],
            tuple(row["engine_logprobs"]),
            row["truncated"],
            row["policy_version"],
        )
        for row in rows
    )
    verdicts = tuple(Verdict(row["verdict"], row["extracted"]) for row in rows)
    rewards = tuple(float(row["reward"]) for row in rows)
    problem = Problem(first["problem_id"], first["problem"], first["gold"])
    return Group(problem, prompt_ids, completions, verdicts, rewards)
