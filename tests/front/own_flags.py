"""Flags and callbacks under a Trainer of one's own: values to try, and remarks for the page."""

from __future__ import annotations

from typing import Any

FLAGS: dict[str, tuple[list[Any], str]] = {
    "barebones": ([True], "leaves no metric, as everywhere"),
    "benchmark": ([True], ""),
    "check_val_every_n_epoch": ([1], "decides how often to evaluate"),
    "detect_anomaly": ([True], ""),
    "deterministic": ([True, "warn"], ""),
    "enable_autolog_hparams": ([False], ""),
    "enable_checkpointing": ([True], ""),
    "enable_model_summary": ([True], ""),
    "enable_progress_bar": ([True], ""),
    "fast_dev_run": ([True], "one update, one evaluation"),
    "inference_mode": ([False], ""),
    "limit_predict_batches": ([1], "not read: there is no predict loop"),
    "limit_test_batches": ([1], "not read: there is no test loop; use `trainer.validate`"),
    "log_every_n_steps": ([2], ""),
    "max_epochs": ([2], "rollouts"),
    "max_steps": ([3], "optimizer updates"),
    "max_time": (["00:01:00:00"], ""),
    "min_epochs": ([1], ""),
    "min_steps": ([1], ""),
    "num_sanity_val_steps": ([0, 1, -1], "a whole evaluation before training; 0 for none"),
    "profiler": (["simple", "advanced"], ""),
    "reload_dataloaders_every_n_epochs": ([1], "changes nothing"),
    "sync_batchnorm": ([True], "changes nothing: policies have no batch normalization"),
    "use_distributed_sampler": ([True, False], "changes nothing: each rank has its own share"),
    "val_check_interval": ([1, 0.5, 2], "also evaluates within an epoch"),
}
"""Arguments of ``lightning.Trainer`` that leave training alone, with values to try and a remark."""

PLACES = {
    "accelerator": "",
    "callbacks": "see below",
    "default_root_dir": "",
    "devices": "[several ranks](python.md#what-the-trainer-decides)",
    "logger": "",
    "model_registry": "not tried",
    "num_nodes": "not tried",
    "plugins": "not tried, but for precision and checkpoints",
    "precision": "`32-true`, `bf16-mixed`; others are refused with the reason",
    "strategy": "`auto`, `ddp`, `FullySharded()`, `ZeRO()`; others that cut weights are refused",
}
"""Arguments that have tests of their own, or none."""

REFUSED: dict[str, list[Any]] = {
    "accumulate_grad_batches": [2],
    "gradient_clip_algorithm": ["value", "norm"],
    "gradient_clip_val": [0.5],
    "limit_train_batches": [1, 3, 0.5, 0],
    "limit_val_batches": [1, 5],
    "overfit_batches": [1, 1.0],
}
"""Arguments that are refused, with values to try."""

CALLBACKS: dict[str, dict[str, Any]] = {
    "Callback": {},
    "Checkpoint": {},
    "DeviceStatsMonitor": {},
    "EarlyStopping": {"monitor": "eval/avg_at_2", "mode": "max", "patience": 9},
    "EMAWeightAveraging": {},
    "LambdaCallback": {},
    "LearningRateMonitor": {},
    "ModelCheckpoint": {"monitor": "eval/avg_at_2", "mode": "max"},
    "ModelSummary": {},
    "OnExceptionCheckpoint": {"dirpath": "exceptions"},
    "ProgressBar": {},
    "RichModelSummary": {},
    "RichProgressBar": {},
    "SpikeDetection": {},
    "ThroughputMonitor": {"batch_size_fn": len, "window_size": 2},
    "Timer": {"duration": {"hours": 1}},
    "TQDMProgressBar": {},
    "WeightAveraging": {},
}
"""Callbacks of Lightning that leave training alone, with options to try."""

REFUSED_CALLBACKS: dict[str, dict[str, Any]] = {
    "BackboneFinetuning": {},
    "BaseFinetuning": {},
    "BasePredictionWriter": {},
    "BatchSizeFinder": {},
    "GradientAccumulationScheduler": {"scheduling": {0: 2}},
    "LearningRateFinder": {},
    "ModelPruning": {"pruning_fn": "l1_unstructured", "amount": 0.5},
    "StochasticWeightAveraging": {"swa_lrs": 1e-4},
}
"""Callbacks that are refused, with options to make them of."""
