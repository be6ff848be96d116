"""nft-eval: a model on benchmark sets."""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from nft_lightning.cli.entry import (
    compose_or_explain,
    config_dir,
    guarded,
    import_from_here,
    is_plain_run,
    take_debug_flag,
)
from nft_lightning.cli.help import shown_help
from nft_lightning.cli.words import check_words, ready
from nft_lightning.distributed.launch import (
    Ranks,
    devices_per_host,
    end_with_the_launcher,
    launch,
)
from nft_lightning.distributed.processes import started_by
from nft_lightning.errors import UserError
from nft_lightning.records.saved_config import within

FILE_COLUMNS = 140
# What an evaluation reads of the node that training reads whole.
ENGINE = ("rollout.engine", "rollout.sync_check")
DESCRIBED = ["model", "run", "checkpoint", "eval", "rollout", "verifier", "seed"]


def prepare(cfg: DictConfig) -> tuple[Any, Any]:
    """Return the model, not loaded, and what it is to answer by which means; raises UserError.

    ``cfg`` is complete, see :func:`completed`.
    """
    from nft_lightning.app.build import part
    from nft_lightning.app.earlier import check_renamed
    from nft_lightning.engines.adapters_alone import FIELD, MERGED
    from nft_lightning.evaluation.evaluate import EvalContext, EvalTask
    from nft_lightning.evaluation.trained import trained_model
    from nft_lightning.problems.prompt_checks import check_prompt
    from nft_lightning.rollouts.asked import choose, room_of
    from nft_lightning.rollouts.config import check_stops

    check_renamed(cfg)
    check_options(cfg)
    if cfg.run is None and cfg.checkpoint is not None:
        raise UserError("checkpoint", cfg.checkpoint, "is of no run", "add run=RUN_FOLDER")
    model = trained_model(Path(cfg.run), cfg.checkpoint) if cfg.run else part(cfg, "model")
    config = part(cfg, "eval")
    engine = part(cfg, "rollout.engine")
    sync_check = part(cfg, "rollout.sync_check")
    if engine.sends_adapters_alone():
        raise UserError(FIELD, engine.adapters, "has no effect on an evaluation", f"use {MERGED}")
    inspected = model.inspect()
    check_prompt(config.prompt, inspected.tokenizer, "eval.prompt")
    check_stops("eval", config.stop, config.stop_token_ids, inspected.tokenizer)
    verifier = part(cfg, "verifier")
    room, tasks = room_of(inspected, engine, config.max_new_tokens, "eval.max_new_tokens"), []
    for name, chosen in config.sets.items():
        found = choose(
            chosen.listed(),
            config.prompt,
            inspected.tokenizer,
            room,
            f"problems of {name}",
            "eval.prompt",
        )
        verifier.check_problems(found[0])
        tasks.append(EvalTask(name, config, chosen, *found))
    judged_by = OmegaConf.to_container(cfg.verifier, resolve=True)
    return model, EvalContext(
        config, tasks, engine, sync_check, verifier, judged_by, cfg.seed, room.context_tokens
    )


def check_options(cfg: DictConfig) -> None:
    """Raise UserError for a value of another type than the command's own keys take."""
    from nft_lightning.app.parts import check_seed
    from nft_lightning.app.trainer_keys import check_value

    check_seed(cfg.seed)
    check_value("threads", cfg.threads, int, 0)
    check_value("device", cfg.device, str)
    for name in ("run", "checkpoint"):
        check_value(name, cfg[name], str | None)
    check_value("out", OmegaConf.to_container(cfg, resolve=False)["out"], str)  # type: ignore[call-overload,index]
    devices = OmegaConf.to_container(cfg.devices) if OmegaConf.is_list(cfg.devices) else cfg.devices
    check_value("devices", devices, list[int] | str | int)
    if isinstance(devices, str | int) and not re.fullmatch(r"auto|-1|[1-9]\d*|\d+(,\d+)+", str(devices)):
        raise UserError("devices", devices, "is no number of devices", "use 1, 2, [0,1] or auto")


def completed(cfg: DictConfig) -> DictConfig:
    """Return the config with what ``eval=run`` leaves open as the run has it."""
    from hydra.core.hydra_config import HydraConfig

    from nft_lightning.evaluation.own import filled

    known = cfg.hydra if "hydra" in cfg else HydraConfig.get()
    # As typed: a reference is no error here.
    typed = OmegaConf.to_container(known.overrides.task, resolve=False)
    assert isinstance(typed, list)
    return filled(cfg, [str(word) for word in typed])


def evaluate(cfg: DictConfig) -> None:
    """Run the command, config composed; several ranks share out the parts."""
    import torch

    from nft_lightning.app.device import usable_device
    from nft_lightning.app.preflight import check_engine
    from nft_lightning.app.quiet import quiet_libraries
    from nft_lightning.distributed.join import join
    from nft_lightning.distributed.ranks import broadcast_from_rank0, first
    from nft_lightning.evaluation.evaluate import begin, count, fill
    from nft_lightning.evaluation.results import save
    from nft_lightning.evaluation.store import Store, fingerprint

    quiet_libraries()
    cfg = completed(cfg)
    model, context = prepare(cfg)
    device = usable_device("device", str(cfg.device))
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    join(device)
    # Its default holds the time, which is not the same on every rank.
    store = Store(Path(broadcast_from_rank0(lambda: str(cfg.out))))
    check_engine(model, context.engine)
    policy = model.load(context.config.temperature or 1.0).to(device)
    own, started = fingerprint(policy.model), time.perf_counter()
    try:
        missing = broadcast_from_rank0(lambda: begin(context, store, own))
        if first():
            hint = f"an interrupted evaluation continues with out={store.folder}"
            say(f"Answers go to {store.folder}; {hint}")
            for task in context.tasks:
                if task.told:
                    say(f"Left out: {task.told}")
        if missing:
            fill(context, store, policy, missing)
    finally:
        context.verifier.close()
    if not first():
        return
    results, problems = count(context.tasks, store)
    described = OmegaConf.to_container(OmegaConf.masked_copy(cfg, DESCRIBED), resolve=True)
    left_out = {task.name: [p.id for p in task.left_out] for task in context.tasks}
    protocol = {"model_fingerprint": own, "config": described}
    save(store.folder, results, problems, protocol, left_out)
    show(results)
    seconds = time.perf_counter() - started
    say(f"{seconds:.0f} s. {store.folder}: results.json, results.md, problems.parquet")


def say(text: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(results: Any) -> None:
    """Show the table of an evaluation's results."""
    from rich.console import Console
    from rich.table import Table

    from nft_lightning.evaluation.results import COLUMNS, table_rows

    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width to fit
        console.width = FILE_COLUMNS
    table = Table(*COLUMNS, box=None, padding=(0, 1))
    for cells in table_rows(results):
        table.add_row(*cells)
    console.print(table)


def refuse_training_keys(arguments: list[str]) -> None:
    """Raise UserError for settings of training's rollouts, which an evaluation does not read."""
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        if key.startswith("rollout.") and not within(key, ENGINE):
            raise UserError(
                key, value, "has no effect on an evaluation", "use eval.*, see nft-eval --cfg job"
            )


def main() -> None:
    """The console command."""
    from nft_lightning.evaluation.own import with_own_problems

    import_from_here()
    debug = take_debug_flag(sys.argv)

    def work() -> None:
        if shown_help("evaluate", sys.argv[1:]):
            return
        sys.argv[1:] = with_own_problems(ready(sys.argv[1:]))
        end_with_the_launcher()
        refuse_training_keys(sys.argv[1:])
        check_words("evaluate", sys.argv[1:])
        if is_plain_run(sys.argv[1:]):
            prepare(completed(compose_or_explain("evaluate", sys.argv[1:])))[1].verifier.close()
        logging.basicConfig(format="%(message)s")
        logging.getLogger("nft_lightning.evaluation").setLevel(logging.INFO)
        hydra.main(str(config_dir()), "evaluate")(lambda cfg: guarded(lambda: on_ranks(cfg), debug))()

    def on_ranks(cfg: DictConfig) -> None:
        ranks = Ranks(devices_per_host(cfg, str(cfg.device)), 1, cfg.threads)
        if not ranks.several or started_by() is not None:
            return evaluate(cfg)
        given = [*sys.argv[1:], *(["--debug"] if debug else [])]
        sys.exit(launch("nft_lightning.cli.evaluate", given, ranks))

    guarded(work, debug)


if __name__ == "__main__":
    main()
