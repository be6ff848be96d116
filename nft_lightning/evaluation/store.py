"""Answers on disk, part by part, so that nothing is answered twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import nn

from nft_lightning.common.files import write_text_whole
from nft_lightning.errors import UserError
from nft_lightning.policy.checksum import checksum
from nft_lightning.records.rollouts import write
from nft_lightning.rollouts.table import answers
from nft_lightning.types import Group


@dataclass(frozen=True)
class Store:
    """``folder/SET/protocol.json`` and ``folder/SET/part_NNNN.parquet``, one row per completion."""

    folder: Path

    def check(self, name: str, protocol: dict[str, Any]) -> None:
        """Raise UserError where the folder holds answers under another protocol."""
        path = self.folder / name / "protocol.json"
        if not path.exists():
            return
        known = json.loads(path.read_text())
        for key in sorted(known.keys() | protocol.keys()):
            if known.get(key) != protocol.get(key):
                raise UserError(
                    "out",
                    str(self.folder),
                    f"holds answers to {name} with another {key} ({path} says which)",
                    "give another folder",
                )

    def begin(self, name: str, protocol: dict[str, Any]) -> None:
        """Check, and write the protocol where there is none yet."""
        self.check(name, protocol)
        write_text_whole(self.folder / name / "protocol.json", json.dumps(protocol, indent=1) + "\n")

    def path(self, name: str, part: int) -> Path:
        """Return the path of part number ``part``."""
        return self.folder / name / f"part_{part:04d}.parquet"

    def done(self, name: str, part: int) -> bool:
        """Is that part finished?"""
        return self.path(name, part).exists()

    def add(self, name: str, part: int, groups: Sequence[Group]) -> None:
        """Save a part, in one piece."""
        write(answers(groups), self.path(name, part))

    def read(self, name: str) -> pa.Table:
        """Return every row of a set."""
        paths = sorted((self.folder / name).glob("part_*.parquet"))
        return pa.concat_tables([pq.read_table(p) for p in paths])


def fingerprint(model: nn.Module) -> str:
    """Return eight bytes in hexadecimal that tell models apart by all their tensors."""
    return f"{checksum(model.state_dict().items()):016x}"
