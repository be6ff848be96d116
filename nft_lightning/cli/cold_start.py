"""``python -m nft_lightning.cli.cold_start CONFIG.yaml``: the training behind ``cold_start``.

nft-train starts it; a person who does so continues a cold start that was left.
"""

from __future__ import annotations

import sys

from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.cold_start import MODULE
from nft_lightning.app.run import run
from nft_lightning.cli.entry import guarded, take_debug_flag
from nft_lightning.distributed.launch import end_with_the_parent, launch, ranks_of
from nft_lightning.distributed.preemption import Preempted
from nft_lightning.distributed.processes import started_by


def train(path: str) -> None:
    """Run the config in ``path``, on as many ranks as it asks for."""
    end_with_the_parent()
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, DictConfig)
    ranks = ranks_of(cfg.trainer)
    if ranks.several and started_by() is None:
        sys.exit(launch(MODULE, [path], ranks))
    try:
        run(cfg)
    except Preempted as signal:
        sys.stderr.write(f"left on {signal} within the cold start; the same command continues it.\n")
        sys.exit(signal.exit_code)


def main() -> None:
    """The command."""
    debug = take_debug_flag(sys.argv)
    guarded(lambda: train(sys.argv[1]), debug)


if __name__ == "__main__":
    main()
