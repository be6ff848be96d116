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


def prepare(cfg: DictConfig) -> tuple[Any, ...]:
    """Everything that can be checked without a model: model, plan, works, engine, proof, verifier."""
    from nft_lightning.config import build, check_length
    from nft_lightning.evaluation.evaluate import Work
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
    return model, plan, works, engine, proof, build(cfg.verifier, "verifier")


def evaluate(cfg: DictConfig) -> None:
    """The command, config composed."""
    import torch

    from nft_lightning.cli.run import quiet_libraries
    from nft_lightning.engines.weight_sync import full_tensors
    from nft_lightning.evaluation.evaluate import answer, count
    from nft_lightning.evaluation.results import save
    from nft_lightning.evaluation.store import Store, fingerprint
    from nft_lightning.problems.prompts import prompt_ids
    from nft_lightning.rollouts.collector import Collector, RolloutPlan
    from nft_lightning.timing import PhaseTimer

    quiet_libraries()
    model, plan, works, engine_config, proof, verifier = prepare(cfg)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    store, timer = Store(Path(cfg.out)), PhaseTimer()
    policy = model.load(plan.temperature or 1.0)
    own = fingerprint(policy.model)
    judged_by = OmegaConf.to_container(cfg.verifier, resolve=True)
    protocols = {w.name: w.protocol(own, judged_by, cfg.seed) for w in works}
    for work in works:
        store.check(work.name, protocols[work.name])
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"can not be written ({error.strerror})"
        raise UserError("out", str(cfg.out), reason, "give another folder") from error
    say(f"Answers go to {store.folder}; an interrupted evaluation goes on with out={store.folder}")

    def encode(text: str) -> tuple[int, ...]:
        return prompt_ids(policy.tokenizer, text, plan.prompt_template)

    started = time.perf_counter()
    try:
        if any(w.missing(store) for w in works):
            engine = engine_config.build(policy.model, policy.tokenizer)
            engine.load_weights(full_tensors(policy.model), 0)
            context = getattr(policy.model.config, "max_position_embeddings", None)
            probe = proof.probe([encode(p.text) for p in works[0].problems[:8]], context)
            if probe:
                proof.check(engine, policy, probe, 0)
            for work in works:
                store.begin(work.name, protocols[work.name])
                rewards, source = verifier.rewards, work.chosen.source
                answers = Collector(source, engine, verifier, rewards, encode, RolloutPlan(), timer)
                answer(work, answers, store, cfg.seed)
    finally:
        verifier.close()
    results, problems = count(works, store)
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
            prepare(compose_or_explain("evaluate", sys.argv[1:]))[-1].close()
        logging.basicConfig(format="%(message)s")
        logging.getLogger("nft_lightning.evaluation").setLevel(logging.INFO)
        hydra.main(str(config_dir()), "evaluate")(lambda cfg: guarded(lambda: evaluate(cfg), debug))()

    guarded(work, debug)


if __name__ == "__main__":
    main()
