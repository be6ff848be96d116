"""nft-train: compose, check, build, train, sum up."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from nft_lightning.cli.entry import (
    compose_or_explain,
    config_dir,
    guarded,
    is_plain_run,
    take_debug_flag,
)
from nft_lightning.cli.resume import expand_resume
from nft_lightning.config import build_parts, check_run_dir


def train(cfg: DictConfig) -> float:
    """The final avg@k of one run: in this process, or of a multirun in one of its own."""
    given = HydraConfig.get()
    if given.mode == RunMode.MULTIRUN:
        from nft_lightning.cli.trial import trial

        search_path = [o for o in given.overrides.hydra if "hydra.searchpath" in o]
        named = any(o.startswith("run_dir=") for o in given.overrides.task)
        folder = Path(cfg.run_dir if named else given.runtime.output_dir)
        return trial(list(given.overrides.task), search_path, folder)
    from nft_lightning.cli.run import run
    from nft_lightning.cli.trial import final_accuracy

    return final_accuracy(run(cfg, list(given.overrides.task)))


def check_before_start(cfg: DictConfig) -> None:
    build_parts(cfg)
    if not OmegaConf.is_interpolation(cfg, "run_dir") and "${" not in str(cfg._get_node("run_dir")):
        check_run_dir(str(cfg.run_dir), cfg.resume)


def main() -> None:
    """The console command."""
    debug = take_debug_flag(sys.argv)

    def work() -> None:
        sys.argv[1:] = expand_resume(sys.argv[1:])
        if is_plain_run(sys.argv[1:]):
            # Before Hydra makes a run folder: bad input leaves nothing behind.
            check_before_start(compose_or_explain("train", sys.argv[1:]))
        values: list[float] = []
        searching = False

        def job(cfg: DictConfig) -> float:
            nonlocal searching
            searching = "Basic" not in HydraConfig.get().sweeper._target_
            guarded(lambda: values.append(train(cfg)), debug)
            return values[-1]

        hydra.main(str(config_dir()), "train")(job)()
        failed = sum(math.isnan(v) for v in values)
        if failed:
            sys.stderr.write(f"error: {failed} of {len(values)} runs failed, see their output.txt.\n")
        if failed and (not searching or failed == len(values)):
            sys.exit(1)

    guarded(work, debug)


if __name__ == "__main__":
    main()
