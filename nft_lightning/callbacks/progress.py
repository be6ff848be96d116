"""What a person sees while it trains: epoch, phase, accuracy, time left."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from nft_lightning.common.text import accuracy_name, metric_label, with_interval
from nft_lightning.training.module import PolicyModule


class Progress(L.Callback):
    """A bar on a terminal; elsewhere a line for each evaluation."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Bar | None = None
        self.task: Any = None
        self.accuracy = ""
        self.started = time.perf_counter()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar and listen to the phases."""
        assert isinstance(pl_module, PolicyModule)
        self.started = time.perf_counter()
        if not trainer.is_global_zero or not sys.stderr.isatty():
            return
        self.bar = Bar(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[phase]:<12}"),
            TextColumn("{task.fields[accuracy]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("", total=trainer.max_epochs, phase="", accuracy=self.accuracy)
        self.bar.start()
        pl_module.timer.listeners.append(self.show_phase)

    def show_phase(self, phase: str) -> None:
        """Name what is going on."""
        if self.bar:
            self.bar.update(self.task, phase={"generate": "rollout"}.get(phase, phase))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One epoch further."""
        if self.bar:
            self.bar.update(self.task, completed=trainer.current_epoch + 1)
        assert isinstance(pl_module, PolicyModule)
        rollout = pl_module.data.progress.rollout
        if rollout is not None and not rollout.groups and trainer.is_global_zero:
            self.console.print(
                f"epoch {trainer.current_epoch + 1}: no problem had right and wrong answers, no update"
            )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the new accuracy."""
        found = {k: float(v) for k, v in trainer.callback_metrics.items()}
        name = accuracy_name(found)
        if not name or not trainer.is_global_zero:
            return
        self.accuracy = f"{metric_label(name)} {with_interval(found, name)}"
        if self.bar:
            self.bar.update(self.task, accuracy=self.accuracy)
        elif trainer.state.fn == "fit":
            seconds = time.perf_counter() - self.started
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.console.print(f"{epoch}  {self.accuracy}  {seconds:.0f} s")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the bar, also after an error."""
        if self.bar:
            self.bar.stop()
            self.bar = None
