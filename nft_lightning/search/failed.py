"""Which runs of a multirun failed, whatever launched them and wherever they ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

RUNS = "runs.jsonl"
ended: list[Path] = []
failed: list[Path] = []


class FailedRuns(Callback):
    """Fills ``ended`` and ``failed`` with the folders of this multirun's runs.

    Launchers run jobs in other processes, whose results Hydra keeps to itself: each run leaves a line
    in the multirun's folder (:func:`note`), wherever its own folder is.
    """

    def __init__(self) -> None:
        self.before = 0

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember how many runs the folder has already."""
        self.before = len(lines(config))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Look at every run of this multirun; a search keeps its own account of its trials."""
        if "nft_lightning.search" in str(config.hydra.sweeper["_target_"]):
            return
        for line in lines(config)[self.before :]:
            run = json.loads(line)
            ended.append(Path(run["folder"]))
            if not run["finished"]:
                failed.append(Path(run["folder"]))


def note(multirun: Path, folder: Path, finished: bool) -> None:
    """Add how a run ended to its multirun's account."""
    multirun.mkdir(parents=True, exist_ok=True)
    with open(multirun / RUNS, "a", encoding="utf-8") as file:
        file.write(json.dumps({"folder": str(folder), "finished": finished}) + "\n")


def lines(config: DictConfig) -> list[str]:
    """Return the account of a multirun, a line for each run that ended."""
    path = Path(str(config.hydra.sweep.dir)) / RUNS
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
