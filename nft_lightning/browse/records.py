"""A run's Parquet files as groups that can be searched and opened.

Only the narrow columns are held in memory, file by file; completions are read for the page that shows
them. A file that changes is read again, so a run can be looked at while it trains.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from nft_lightning.errors import UserError, first_line

PARTS = {"rollouts": "epoch", "evaluations": "update"}
NARROW = (
    "problem_id",
    "problem",
    "prompt_accuracy",
    "sample",
    "verdict",
    "length_tokens",
    "policy_version",
)
UNREADABLE = (OSError, pa.ArrowException, KeyError, ValueError)


@dataclass(frozen=True)
class Index:
    """The G groups of one file, N rows in all.

    ``starts`` [G] is each group's first row; ``problem_ids``, ``problems``, ``accuracies`` and
    ``versions`` have one entry a group; ``verdicts`` and ``lengths`` [N] one a completion.
    """

    part: str
    name: str
    moment: int
    starts: Any
    problem_ids: pa.Array
    problems: pa.Array
    accuracies: Any
    versions: Any
    verdicts: Any
    lengths: Any

    def stop(self, group: int) -> int:
        """Return one behind the group's last row."""
        return int(self.starts[group + 1]) if group + 1 < len(self.starts) else len(self.lengths)


@dataclass(frozen=True)
class Question:
    """What is looked for; None and the empty text let everything pass.

    ``moment`` is an epoch of rollouts or an update of evaluations. A group is found where one of its
    completions has ``verdict`` and a length from ``shortest`` to ``longest`` tokens.
    """

    part: str = "rollouts"
    moment: int | None = None
    text: str = ""
    verdict: str = ""
    shortest: int | None = None
    longest: int | None = None


@dataclass(frozen=True)
class Found:
    """One group in a list."""

    part: str
    name: str
    moment: int
    row: int
    problem_id: str
    problem: str
    accuracy: float
    version: int
    verdicts: tuple[str, ...]
    lengths: tuple[int, ...]


def read_index(path: Path, part: str) -> Index:
    """Return the narrow columns of one file."""
    table = pq.read_table(
        path, columns=list(NARROW), read_dictionary=["problem_id", "problem", "verdict"]
    )
    starts = np.flatnonzero(table["sample"].to_numpy() == 0)
    if table.num_rows and (len(starts) == 0 or starts[0] != 0):
        raise ValueError("a group lacks its first completion")

    def by_group(column: str) -> pa.Array:
        return table[column].take(pa.array(starts)).cast(pa.string()).combine_chunks()

    return Index(
        part,
        path.stem,
        int(path.stem.split("_")[1]),
        starts,
        by_group("problem_id"),
        by_group("problem"),
        table["prompt_accuracy"].to_numpy()[starts],
        table["policy_version"].to_numpy()[starts],
        np.asarray(table["verdict"].cast(pa.string()).to_numpy(zero_copy_only=False), dtype="U16"),
        table["length_tokens"].to_numpy(),
    )


class Records:
    """The rollouts and evaluations of a run folder.

    Raises:
        UserError: there is no such folder, or it holds neither.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.lock = threading.Lock()
        self.known: dict[Path, tuple[tuple[int, int], Index]] = {}
        self.unreadable: dict[str, str] = {}
        if not run.is_dir():
            raise UserError("RUN", str(run), "is no folder", "give the folder of a run, runs/DATE/NAME")
        if not any(self.files(part) for part in PARTS):
            raise UserError(
                "RUN",
                str(run),
                "holds neither rollouts/*.parquet nor evaluations/*.parquet",
                "give the folder of a run whose callbacks keep them (callbacks=default)",
            )

    def files(self, part: str) -> list[Path]:
        """Return the files of ``rollouts`` or ``evaluations``, oldest first."""
        return sorted((self.run / part).glob(f"{PARTS[part]}_[0-9]*.parquet"))

    def indexes(self, part: str) -> list[Index]:
        """Return all that can be read; ``unreadable`` names the others."""
        found = []
        with self.lock:
            for path in self.files(part):
                try:
                    stat = path.stat()
                    stamp = (stat.st_mtime_ns, stat.st_size)
                    if self.known.get(path, (None,))[0] != stamp:
                        self.known[path] = (stamp, read_index(path, part))
                    found.append(self.known[path][1])
                    self.unreadable.pop(f"{part}/{path.name}", None)
                except UNREADABLE as error:
                    reason = first_line(error)[:200]
                    self.unreadable[f"{part}/{path.name}"] = reason
        return found

    def moments(self, part: str) -> list[int]:
        """Epochs or updates there are."""
        return sorted({index.moment for index in self.indexes(part)})

    def search(self, asked: Question, first: int, count: int) -> tuple[int, list[Found]]:
        """Return how many groups match, and ``count`` of them from the ``first`` on, in order of
        time.
        """
        total, page = 0, []
        for index in self.indexes(asked.part):
            if asked.moment is not None and index.moment != asked.moment:
                continue
            hits = matching(index, asked)
            low, high = max(first - total, 0), first + count - total
            page += [describe(index, int(group)) for group in hits[low : max(high, 0)]]
            total += len(hits)
        return total, page

    def locate(self, part: str, name: str, row: int) -> tuple[Index, int]:
        """Return the file and group of a link. Raises KeyError: it leads nowhere."""
        for index in self.indexes(part) if part in PARTS else ():
            if index.name == name:
                group = int(np.searchsorted(index.starts, row))
                if group < len(index.starts) and index.starts[group] == row:
                    return index, group
        raise KeyError(name)

    def completions(self, index: Index, group: int) -> list[dict[str, Any]]:
        """Return the rows of one group with every column of the file."""
        path = self.run / index.part / f"{index.name}.parquet"
        rows = pa.array(range(int(index.starts[group]), index.stop(group)))
        found: list[dict[str, Any]] = ds.dataset(path, format="parquet").take(rows).to_pylist()
        return found

    def history(self, problem_id: str) -> Iterator[Found]:
        """Yield every group of one problem, rollouts before evaluations, each in order of time."""
        for part in PARTS:
            for index in self.indexes(part):
                for group in np.flatnonzero(pc.equal(index.problem_ids, problem_id).to_numpy(False)):
                    yield describe(index, int(group))


def matching(index: Index, asked: Question) -> Any:
    """Return the groups [G'] of one file that match."""
    if len(index.starts) == 0:
        return np.zeros(0, dtype=int)
    rows = np.ones(len(index.lengths), dtype=bool)
    if asked.verdict:
        rows &= index.verdicts == asked.verdict
    if asked.shortest is not None:
        rows &= index.lengths >= asked.shortest
    if asked.longest is not None:
        rows &= index.lengths <= asked.longest
    groups = np.logical_or.reduceat(rows, index.starts)
    if asked.text:
        hit = pc.or_kleene(
            pc.match_substring(index.problems, asked.text, ignore_case=True),
            pc.match_substring(index.problem_ids, asked.text, ignore_case=True),
        )
        groups &= hit.to_numpy(zero_copy_only=False).astype(bool)
    return np.flatnonzero(groups)


def describe(index: Index, group: int) -> Found:
    """Return a group as a list shows it."""
    start, stop = int(index.starts[group]), index.stop(group)
    return Found(
        index.part,
        index.name,
        index.moment,
        start,
        index.problem_ids[group].as_py(),
        index.problems[group].as_py(),
        float(index.accuracies[group]),
        int(index.versions[group]),
        tuple(index.verdicts[start:stop].tolist()),
        tuple(index.lengths[start:stop].tolist()),
    )
