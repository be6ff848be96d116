"""Which runs of a multirun failed, whatever launched them and wherever they ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

ended: list[Path] = []
failed: list[Path] = []


class FailedRuns(Callback):
    """Fills ``ended`` and ``failed`` with the folders of this multirun's runs.

    Launchers run jobs in other processes, whose results Hydra keeps to itself; folders tell.
    """

    def __init__(self) -> None:
        self.before: dict[Path, int] = {}

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the runs that lie in the folder already."""
        self.before = outputs(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Look at every run that this multirun wrote; a search keeps its own account of its trials."""
        if "nft_lightning.search" in str(config.hydra.sweeper["_target_"]):
            return
        for output, written in outputs(config).items():
            if self.before.get(output) == written:
                continue
            ended.append(output.parent)
            if not (output.parent / "trial.json").exists():
                failed.append(output.parent)


def outputs(config: DictConfig) -> dict[Path, int]:
    """What runs in the sweep's folder printed, by file, with the time of its last change."""
    found = sorted(Path(str(config.hydra.sweep.dir)).glob("*/output.txt"))
    return {path: path.stat().st_mtime_ns for path in found}
