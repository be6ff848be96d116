"""nft-train: compose, check, build, train, sum up."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Sweep
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import part
from nft_lightning.app.cold_start import check_cold_start, with_cold_start
from nft_lightning.app.conditions import same_run
from nft_lightning.app.parts import Parts, build_parts, check_run_dir
from nft_lightning.app.preflight import check_machine
from nft_lightning.app.resume import expand_resume
from nft_lightning.app.trainer_keys import check_flags
from nft_lightning.cli.entry import (
    as_written,
    compose_or_explain,
    config_dir,
    guarded,
    import_from_here,
    is_plain_run,
    take_debug_flag,
)
from nft_lightning.cli.help import shown_help
from nft_lightning.cli.presets import without_strays
from nft_lightning.cli.words import check_words, first_of, group_of, is_word, ready, understood
from nft_lightning.common.text import key_of, quoted
from nft_lightning.distributed.launch import end_with_the_launcher, launch, ranks_of
from nft_lightning.distributed.processes import started_by, world_size
from nft_lightning.errors import UserError


def train(cfg: DictConfig, debug: bool = False, parts: Parts | None = None) -> float:
    """Return the final avg@k of one run: of this process, or in a multirun of a process of its own.

    Args:
        cfg: composed. debug: show tracebacks. parts: what was built from the same config, if anything.

    Raises:
        SystemExit: the run's ranks were processes of their own, with their exit code.
    """
    hydra_config = HydraConfig.get()
    # As typed: read one by one, ${oc.env:...} would become the secret it stands for.
    typed = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    assert isinstance(typed, list)
    if hydra_config.mode == RunMode.MULTIRUN:
        from nft_lightning.search.trial import trial

        named = any(o.startswith("run_dir=") for o in typed)
        folder = Path(cfg.run_dir if named else hydra_config.runtime.output_dir)
        return trial(typed, search_path(hydra_config), folder, Path(hydra_config.sweep.dir))
    if cfg.get("cold_start"):
        cfg = with_cold_start(cfg)
        parts = parts and dataclasses.replace(parts, model=part(cfg, "model"))
    ranks = ranks_of(cfg.trainer)
    if ranks.several and started_by() is None:
        sys.exit(launch("nft_lightning.cli.train", words_of_a_rank(str(cfg.run_dir), debug), ranks))
    from nft_lightning.app.run import run
    from nft_lightning.search.trial import final_accuracy

    return final_accuracy(run(cfg, [*search_path(hydra_config), *typed], parts))


def search_path(hydra_config: HydraConf) -> list[str]:
    """Return the override that finds the configs of ``hydra.searchpath`` and ``--config-dir`` again."""
    sources = [s for s in hydra_config.runtime.config_sources if "command-line" in s.provider]
    found = [f"'{source.schema}://{source.path}'" for source in sources]
    return [f"hydra.searchpath=[{','.join(found)}]"] if found else []


def words_of_a_rank(run_dir: str, debug: bool) -> list[str]:
    """Return this command's arguments with the run folder named: its default holds the time."""
    given = [a for a in sys.argv[1:] if not a.startswith("run_dir=")]
    return [*given, f"run_dir={quoted(run_dir)}", *(["--debug"] if debug else [])]


def check_run_dir_of_ranks(arguments: list[str]) -> None:
    """Raise UserError where ranks of another launcher would each make a run folder of its own time."""
    if world_size() > 1 and is_plain_run(arguments) and "run_dir" not in map(key_of, arguments):
        raise UserError(
            "run_dir",
            None,
            f"is made from the time, which is not the same on {world_size()} ranks",
            "give run_dir=FOLDER",
        )


def offer_searches(arguments: list[str]) -> None:
    """Make ``sweep=`` known where there are many runs; UserError where it cannot work."""
    many = bool({"-m", "--multirun"} & set(arguments))
    if many and {"--cfg", "-c"} & set(arguments):
        raise UserError("--cfg", "with -m", "shows one run", "leave out -m")
    if many and world_size() > 1:
        raise UserError(
            "-m",
            "many runs",
            f"would be started by each of {world_size()} processes",
            "leave out torchrun: each run starts its own ranks",
        )
    if many and not any("hydra.sweep.dir" in a for a in arguments):
        check_run_dir("runs/multirun/...")
    if many:
        firsts = [
            first_of(a) for a in arguments if is_word(a) and group_of(a) not in ("sweep", "pruner")
        ]
        compose_or_explain("train", [a for a in firsts if not isinstance(understood(a), Sweep)])
    chosen, pruner = (
        next((a.partition("=")[2] for a in arguments if a.startswith(f"{group}=")), None)
        for group in ("sweep", "pruner")
    )
    if is_plain_run(arguments) and chosen is not None:
        raise UserError("sweep", chosen, "is many runs", "add -m: nft-train -m sweep=...")
    if pruner is not None and chosen is None:
        raise UserError(
            "pruner", pruner, "ends runs of a search", "add -m sweep=..., see docs/search.md"
        )
    if not many and chosen is None:
        return
    try:
        from nft_lightning.search.sweeper import register
    except ImportError as error:
        if chosen is None:
            return
        remedy = "run in the clone: pip install '.[sweep]'"
        raise UserError("sweep", chosen, "needs Optuna", remedy) from error
    register()


def check_before_start(cfg: DictConfig) -> Parts:
    """Return the parts of a run that was checked before anything is written."""
    from nft_lightning.app.quiet import quiet_libraries

    quiet_libraries()
    parts = build_parts(cfg)
    check_machine(cfg, parts)
    check_flags(cfg.trainer)
    if cfg.get("cold_start"):
        check_cold_start(cfg, parts)
    written = str(as_written(cfg, "run_dir"))
    if "${" not in written or ("${hydra" not in written and "${now" not in written):
        check_run_dir(cfg.run_dir, cfg.resume)
    else:
        # What its default begins with is known ahead; the time of its end is not.
        check_run_dir(f"{written.partition('${')[0]}...")
    return parts


def report_failed_runs() -> None:
    """After a multirun: exit code 1 and one sentence where runs failed."""
    from nft_lightning.search.failed import ended, failed

    if failed:
        names = ", ".join(str(f) for f in failed[:3]) + (" ..." if len(failed) > 3 else "")
        sys.stderr.write(
            f"error: {len(failed)} of {len(ended)} runs failed, see output.txt in {names}.\n"
        )
        sys.exit(1)


def main() -> None:
    """The console command."""
    import_from_here()
    debug = take_debug_flag(sys.argv)
    # Hydra builds its callbacks in a way of its own that it warns about; this one is ours.
    warnings.filterwarnings("ignore", message=".*nft_lightning.search.failed.FailedRuns")

    checked: list[tuple[DictConfig, Parts]] = []

    def work() -> None:
        if shown_help("train", sys.argv[1:]):
            return
        end_with_the_launcher()
        sys.argv[1:] = without_strays("train", ready(expand_resume(sys.argv[1:])))
        check_words("train", sys.argv[1:])
        check_run_dir_of_ranks(sys.argv[1:])
        offer_searches(sys.argv[1:])
        if is_plain_run(sys.argv[1:]):
            # Before Hydra makes a run folder: bad input leaves nothing behind.
            composed = compose_or_explain("train", sys.argv[1:])
            checked.append((composed, check_before_start(composed)))
        hydra.main(str(config_dir()), "train")(run_or_trial)()
        report_failed_runs()

    def run_or_trial(cfg: DictConfig) -> float:
        values: list[float] = []
        # Data sets are loaded once: Hydra composes what was checked again.
        parts = next((parts for before, parts in checked if same_run(before, cfg)), None)
        guarded(lambda: values.append(train(cfg, debug, parts)), debug)
        return values[0]

    guarded(work, debug)


if __name__ == "__main__":
    main()
