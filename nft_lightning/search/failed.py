"""Which runs of a multirun failed, whatever launched them and wherever they ran."""

from __future__ import annotations

import time
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
        self.started = time.time() - 1  # file systems round

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Look at every folder that a run of this multirun wrote to."""
        for output in sorted(Path(str(config.hydra.sweep.dir)).glob("*/output.txt")):
            if output.stat().st_mtime < self.started:
                continue
            ended.append(output.parent)
            if not (output.parent / "trial.json").exists():
                failed.append(output.parent)
