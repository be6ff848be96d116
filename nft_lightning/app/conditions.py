"""Whether two configs describe the same run, or runs under equal conditions."""

from __future__ import annotations

import hashlib
import json

from omegaconf import DictConfig, OmegaConf

NOT_CONDITIONS = (
    "algorithm",
    "seed",
    "run_dir",
    "resume",
    "resume_allow",
    "on_write_error",
    "logger",
    "callbacks",
    "hydra",
)


def same_run(first: DictConfig, second: DictConfig) -> bool:
    """Return whether two configs describe the same run, wherever its folder is."""
    written = [OmegaConf.to_container(cfg, resolve=False) for cfg in (first, second)]
    kept = [{k: v for k, v in dict(data).items() if k not in ("hydra", "run_dir")} for data in written]  # type: ignore[arg-type]
    return kept[0] == kept[1]


def conditions_hash(cfg: DictConfig) -> str:
    """Eight characters that are equal for runs under equal conditions: all but algorithm and seed."""
    data = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(data, dict)
    kept = {k: v for k, v in data.items() if k not in NOT_CONDITIONS}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:8]
