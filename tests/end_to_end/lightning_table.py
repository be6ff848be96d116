"""What a run makes of Lightning's flags and callbacks; writes the tables of ``docs/lightning.md``."""

from __future__ import annotations

import inspect
from pathlib import Path

import lightning as L
from lightning.pytorch import callbacks

from nft_lightning.app.lightning_use import REFUSED_CALLBACKS, REFUSED_FLAGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "lightning.md"
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->"

FLAGS: dict[str, tuple[list[str], str]] = {
    "benchmark": (["true"], ""),
    "detect_anomaly": (["true"], ""),
    "deterministic": (["true", "warn"], "runs on one CPU thread are bitwise equal without it"),
    "enable_autolog_hparams": (["false"], "loggers write `config.yaml` in any case"),
    "enable_checkpointing": (["true"], "follows from `callbacks`"),
    "enable_model_summary": (["true"], ""),
    "enable_progress_bar": (["true"], "with `callbacks.progress=null`, which leaves out the run's own"),
    "fast_dev_run": (["true"], "`debug=default`; without loggers"),
    "inference_mode": (["false"], ""),
    "log_every_n_steps": (["2"], "thins out `updates.csv`; 1 by default"),
    "max_epochs": (["2"], "rollouts"),
    "max_steps": (["3"], "optimizer updates"),
    "max_time": (["00:01:00:00"], ""),
    "min_epochs": (["1"], ""),
    "min_steps": (["1"], ""),
    "profiler": (["simple", "advanced"], "`debug=profiler`; also `pytorch`"),
    "reload_dataloaders_every_n_epochs": (["1"], "changes nothing: an epoch has a new rollout anyway"),
}
"""Keys of ``lightning.Trainer`` that work, with values to try and a remark."""

PLACES = {
    "accelerator": "`cpu`, `gpu`, `cuda`, `mps`, `auto`",
    "devices": "ranks of a host, which `nft-train` starts: [scale.md](scale.md)",
    "num_nodes": "[scale.md](scale.md)",
    "precision": "`32-true`, `bf16-mixed`, `bf16-true`, `16-true`: [scale.md](scale.md)",
    "strategy": "`auto`, `ddp`, `fsdp2`, `deepspeed_stage_2`, `deepspeed_stage_3`: [scale.md](scale.md)",
}
"""Keys that have tests and checks of their own."""

SIZE = "{_target_:tests.end_to_end.lightning_table.size,_partial_:true}"
CALLBACKS: dict[str, tuple[str, str]] = {
    "Callback": ("", ""),
    "Checkpoint": ("", ""),
    "DeviceStatsMonitor": ("", "into `updates.csv`; needs psutil on CPUs"),
    "EarlyStopping": ("monitor:eval/avg_at_2,mode:max,patience:9", "once per evaluation"),
    "EMAWeightAveraging": ("", "evaluations, checkpoints and export are of the average"),
    "LambdaCallback": ("on_train_start:" + SIZE, ""),
    "LearningRateMonitor": ("", "into `updates.csv`"),
    "ModelCheckpoint": (
        "monitor:eval/avg_at_2,mode:max",
        "in addition to `callbacks.checkpoint`, the only one that resumes within an epoch",
    ),
    "ModelSummary": ("", ""),
    "OnExceptionCheckpoint": ("dirpath:RUN/exceptions", ""),
    "ProgressBar": ("", "with `callbacks.progress=null`"),
    "RichModelSummary": ("", ""),
    "RichProgressBar": ("", "with `callbacks.progress=null`"),
    "SpikeDetection": ("", "of the loss, whose size means little here"),
    "ThroughputMonitor": (f"batch_size_fn:{SIZE},window_size:2", "into `updates.csv`; see also `time/`"),
    "Timer": ("duration:{hours:1}", ""),
    "TQDMProgressBar": ("", "with `callbacks.progress=null`"),
    "WeightAveraging": ("", "as EMAWeightAveraging"),
}
"""Callbacks of Lightning that work, with options to try and a remark."""


def size(*given: object) -> int:
    """Return how many micro-batches a batch has; 1 for anything else."""
    return max(1, len(getattr(given[0], "micro_batches", ())))


def all_flags() -> list[str]:
    """Return every key of Lightning's trainer."""
    return sorted(inspect.signature(L.Trainer).parameters)


def all_callbacks() -> list[str]:
    """Return every callback that Lightning brings."""
    return sorted(callbacks.__all__, key=str.lower)


def row(name: str, works: dict[str, str], refused: dict[str, tuple[str, str]]) -> str:
    """Return a line of a table."""
    if name in works:
        return f"| `{name}` | works | {works[name]} |"
    problem, remedy = refused[name]
    return f"| `{name}` | refused: {problem} | {remedy} |"


def tables() -> str:
    """Return both tables."""
    flags = {**{name: remark for name, (_, remark) in FLAGS.items()}, **PLACES}
    stock = {name: remark for name, (_, remark) in CALLBACKS.items()}
    lines = ["| `trainer.` | here | remark, or what to use instead |", "|---|---|---|"]
    lines += [row(name, flags, REFUSED_FLAGS) for name in all_flags()]
    lines += ["", "| callback | here | remark, or what to use instead |", "|---|---|---|"]
    lines += [row(name, stock, REFUSED_CALLBACKS) for name in all_callbacks()]
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """Return the page with the tables as they are now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + tables() + END + after


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
