"""nft-plan: what a run would need and take, without running it."""

from __future__ import annotations

import json
import sys

import hydra
from omegaconf import DictConfig

from nft_lightning.cli.entry import (
    compose_or_explain,
    config_dir,
    guarded,
    import_from_here,
    is_plain_run,
    take_debug_flag,
)
from nft_lightning.cli.help import shown_help
from nft_lightning.cli.presets import without_strays
from nft_lightning.cli.words import check_words, ready

FILE_COLUMNS = 140


def plan(cfg: DictConfig) -> None:
    """The command, config composed."""
    from rich.console import Console

    from nft_lightning.app.quiet import quiet_libraries
    from nft_lightning.planning.plan import as_data, plan_of
    from nft_lightning.planning.report import report

    quiet_libraries()
    data = as_data(plan_of(cfg))
    if cfg.plan.format == "json":
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width to fit
        console.width = FILE_COLUMNS
    console.print(report(data))


def take_json_flag(arguments: list[str]) -> None:
    """``--json`` is short for ``plan.format=json``."""
    if "--json" in arguments:
        arguments.remove("--json")
        arguments.append("plan.format=json")


def main() -> None:
    """The console command."""
    import_from_here()
    debug = take_debug_flag(sys.argv)
    take_json_flag(sys.argv)

    def work() -> None:
        if shown_help("plan", sys.argv[1:]):
            return
        sys.argv[1:] = without_strays("plan", ready(sys.argv[1:]))
        check_words("plan", sys.argv[1:])
        if is_plain_run(sys.argv[1:]):
            plan(compose_or_explain("plan", sys.argv[1:]))
        else:  # --cfg job and the like are Hydra's
            hydra.main(str(config_dir()), "plan")(plan)()

    guarded(work, debug)


if __name__ == "__main__":
    main()
