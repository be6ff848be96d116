"""nft-train: compose, check, build, train, sum up."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from nft_lightning.cli.entry import (
    compose_or_explain,
    config_dir,
    guarded,
    is_plain_run,
    take_debug_flag,
)
from nft_lightning.config import check_writable


def train(cfg: DictConfig) -> None:
    from nft_lightning.cli.run import run

    run(cfg)


def main() -> None:
    """The console command."""
    debug = take_debug_flag(sys.argv)

    def work() -> None:
        if is_plain_run(sys.argv[1:]):
            composed = compose_or_explain("train", sys.argv[1:])
            if "run_dir=" in " ".join(sys.argv[1:]):
                check_writable(str(composed.run_dir))
        task = hydra.main(str(config_dir()), "train")(lambda cfg: guarded(lambda: train(cfg), debug))
        task()

    guarded(work, debug)


if __name__ == "__main__":
    main()
