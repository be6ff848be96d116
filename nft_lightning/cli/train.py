"""nft-train: compose, check, build, train, sum up."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from nft_lightning.cli.entry import (
    compose_or_explain,
    config_dir,
    guarded,
    is_plain_run,
    take_debug_flag,
)
from nft_lightning.config import build_parts, check_run_dir


def train(cfg: DictConfig) -> None:
    from nft_lightning.cli.run import run

    run(cfg)


def check_before_start(cfg: DictConfig) -> None:
    build_parts(cfg)
    if not OmegaConf.is_interpolation(cfg, "run_dir") and "${" not in str(cfg._get_node("run_dir")):
        check_run_dir(str(cfg.run_dir))


def main() -> None:
    """The console command."""
    debug = take_debug_flag(sys.argv)

    def work() -> None:
        if is_plain_run(sys.argv[1:]):
            # Before Hydra makes a run folder: bad input leaves nothing behind.
            check_before_start(compose_or_explain("train", sys.argv[1:]))
        task = hydra.main(str(config_dir()), "train")(lambda cfg: guarded(lambda: train(cfg), debug))
        task()

    guarded(work, debug)


if __name__ == "__main__":
    main()
