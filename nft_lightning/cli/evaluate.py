"""nft-eval: a model on benchmark sets."""

from __future__ import annotations

import logging
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
    is_plain_run,
    take_debug_flag,
)
from nft_lightning.errors import UserError

FILE_COLUMNS = 140
DESCRIBED = ["model", "run", "checkpoint", "eval", "rollout", "verifier", "seed"]


def prepare(cfg: DictConfig) -> tuple[Any, Any]:
    """The model, not loaded, and what it is to answer by which means; raises UserError."""
    from nft_lightning.config import build, check_length
    from nft_lightning.evaluation.evaluate import Means, Work
    from nft_lightning.evaluation.trained import trained_model
    from nft_lightning.problems.prompts import prompt_ids

    if cfg.run is None and cfg.checkpoint is not None:
        raise UserError("checkpoint", cfg.checkpoint, "is of no run", "add run=RUN_FOLDER")
    if not isinstance(cfg.seed, int) or cfg.seed < 0:
        raise UserError("seed", cfg.seed, "is not a seed", "use a whole number, 0 or more")
    model = trained_model(Path(cfg.run), cfg.checkpoint) if cfg.run else build(cfg.model, "model")
    plan = build(cfg.eval.plan, "eval.plan")
    engine, proof = (
        build(cfg.rollout.engine, "rollout.engine"),
        build(cfg.rollout.proof, "rollout.proof"),
    )
    works = [Work(name, plan, chosen, chosen.listed()) for name, chosen in plan.sets.items()]
    peeked = model.peek()
    for work in works:
        for problem in work.problems:
            ids = prompt_ids(
                peeked.tokenizer, problem.text, plan.prompt_template, "eval.plan.prompt_template"
            )
            check_length(
                len(ids),
                plan.max_new_tokens,
                peeked.context_tokens,
                problem.text,
                "eval.plan.max_new_tokens",
            )
    judged_by = OmegaConf.to_container(cfg.verifier, resolve=True)
    verifier = build(cfg.verifier, "verifier")
    return model, Means(plan, works, engine, proof, verifier, judged_by, cfg.seed)


def evaluate(cfg: DictConfig) -> None:
    """The command, config composed; under torchrun the parts are shared out over the ranks."""
    import torch

    from nft_lightning.cli.device import usable_device
    from nft_lightning.cli.run import quiet_libraries
    from nft_lightning.engines.ranks import first, from_first, joined
    from nft_lightning.evaluation.evaluate import begin, count, fill
    from nft_lightning.evaluation.results import save
    from nft_lightning.evaluation.store import Store, fingerprint
    from nft_lightning.machine import check_engine

    quiet_libraries()
    model, means = prepare(cfg)
    device = usable_device("device", str(cfg.device))
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    with joined():
        # Its default holds the time, which is not the same on every rank.
        store = Store(Path(from_first(lambda: str(cfg.out))))
        check_engine(model, means.engine)
        policy = model.load(means.plan.temperature or 1.0).to(device)
        own, started = fingerprint(policy.model), time.perf_counter()
        try:
            missing = from_first(lambda: begin(means, store, own))
            if first():
                hint = f"an interrupted evaluation goes on with out={store.folder}"
                say(f"Answers go to {store.folder}; {hint}")
            if missing:
                fill(means, store, policy, missing)
        finally:
            means.verifier.close()
        if not first():
            return
        results, problems = count(means.works, store)
    described = OmegaConf.to_container(OmegaConf.masked_copy(cfg, DESCRIBED), resolve=True)
    save(store.folder, results, problems, {"model_fingerprint": own, "config": described})
    show(results)
    seconds = time.perf_counter() - started
    say(f"{seconds:.0f} s. {store.folder}: results.json, results.md, problems.parquet")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(results: Any) -> None:
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
        if key.startswith("rollout.plan"):
            raise UserError(
                key, value, "has no effect on an evaluation", "use eval.plan.*, see nft-eval --cfg job"
            )


def main() -> None:
    """The console command."""
    debug = take_debug_flag(sys.argv)

    def work() -> None:
        refuse_training_keys(sys.argv[1:])
        if is_plain_run(sys.argv[1:]):
            prepare(compose_or_explain("evaluate", sys.argv[1:]))[1].verifier.close()
        logging.basicConfig(format="%(message)s")
        logging.getLogger("nft_lightning.evaluation").setLevel(logging.INFO)
        hydra.main(str(config_dir()), "evaluate")(lambda cfg: guarded(lambda: evaluate(cfg), debug))()

    guarded(work, debug)


if __name__ == "__main__":
    main()
