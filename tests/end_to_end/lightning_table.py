"""What a run makes of Lightning's flags and callbacks; writes the tables of ``docs/lightning.md``."""

from __future__ import annotations

import inspect
from pathlib import Path

import lightning as L
from lightning.pytorch import callbacks

from nft_lightning.app.lightning_use import REFUSED_FLAGS
from nft_lightning.training import own_trainer
from tests.front import own_flags

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


def cell(remark: str) -> str:
    """Return the cell of what is not refused."""
    if remark.startswith("not "):
        return remark
    return f"works: {remark}" if remark else "works"


def refused(problem: str, remedy: str) -> str:
    """Return the cell of what is refused."""
    return f"refused: {problem}; {remedy}"


def tables() -> str:
    """Return both tables: what becomes of each flag and callback, in two ways to train."""
    flags = {**{name: remark for name, (_, remark) in FLAGS.items()}, **PLACES}
    own = {**{name: remark for name, (_, remark) in own_flags.FLAGS.items()}, **own_flags.PLACES}
    lines = ["| flag | `nft-train trainer.FLAG=` | your own `Trainer(FLAG=)` |", "|---|---|---|"]
    for name in all_flags():
        first = cell(flags[name]) if name in flags else refused(*REFUSED_FLAGS[name])
        second = cell(own[name]) if name in own else refused(*own_trainer.FLAGS[name])
        lines.append(f"| `{name}` | {first} | {second} |")
    lines += ["", "| callback | `nft-train callbacks.NAME=` | your own `Trainer(callbacks=)` |"]
    lines += ["|---|---|---|"]
    for name in all_callbacks():
        if name in CALLBACKS:
            lines.append(f"| `{name}` | {cell(CALLBACKS[name][1])} | works |")
            continue
        found = own_trainer.CALLBACKS[name]
        second = "the same" if found.in_script == found.in_config else f"refused; {found.in_script}"
        lines.append(f"| `{name}` | {refused(found.problem, found.in_config)} | {second} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """Return the page with the tables as they are now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + tables() + END + after


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
