"""The rollouts of a finished run in place of new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from nft_lightning.errors import UserError
from nft_lightning.rollouts.metrics import rollout_metrics
from nft_lightning.rollouts.table import groups_of
from nft_lightning.types import Rollout

CHECKED_COMPLETIONS = 8
FIELD = "rollout.path"


class Replay:
    """Reads the rollouts that a run has recorded, again from the first one after the last.

    Args:
        run: the run's folder.
        encode: the prompt of a problem's text, as the run asked it.

    Raises:
        UserError: the folder holds no rollouts.
    """

    def __init__(self, run: str, encode: Callable[[str], tuple[int, ...]]) -> None:
        self.run, self.encode = run, encode
        self.files = rollout_files(run)

    def read(self, index: int) -> Rollout:
        """Return rollout number ``index``."""
        table = pq.read_table(self.files[index % len(self.files)])
        groups = tuple(groups_of(table, self.encode))
        version = groups[0].completions[0].policy_version if groups else 0
        metrics = rollout_metrics(groups, len(groups), len(groups)) if groups else {}
        return Rollout(groups, version, metrics)

    def check(self, tokenizer: Any) -> None:
        """Raise UserError where ``tokenizer`` does not read the tokens as the run's did."""
        rows = pq.read_table(self.files[0], columns=["token_ids", "completion"])
        for row in rows.slice(0, CHECKED_COMPLETIONS).to_pylist():
            read = tokenizer.decode(row["token_ids"], skip_special_tokens=True)
            if read != row["completion"]:
                raise UserError(
                    FIELD,
                    self.run,
                    f"was written with another tokenizer: {row['completion']!r} would be {read!r}",
                    "use the model that wrote it",
                )


def rollout_files(run: str) -> Sequence[Path]:
    """Return the recorded rollouts of a run's folder, in their order; UserError where there are none."""
    files = sorted((Path(run) / "rollouts").glob("epoch_*.parquet"))
    if not files:
        raise UserError(
            FIELD,
            run,
            "holds no rollouts/epoch_*.parquet",
            "give the folder of a run that recorded them (callbacks=default)",
        )
    return files
