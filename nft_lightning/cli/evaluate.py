"""nft-eval: a model on benchmark sets."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

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


class Ready(NamedTuple):
    """Everything that can be checked without a model."""

    model: Any
    plan: Any
    works: list[Any]
    engine: Any
    proof: Any
    verifier: Any


def prepare(cfg: DictConfig) -> Ready:
    """Build and check; raises UserError."""
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
    return Ready(model, plan, works, engine, proof, build(cfg.verifier, "verifier"))


def evaluate(cfg: DictConfig) -> None:
    """The command, config composed; under torchrun the parts are shared out over the ranks."""
    import torch

    from nft_lightning.cli.device import usable_device
    from nft_lightning.cli.run import quiet_libraries
    from nft_lightning.engines.ranks import first, from_first, joined
    from nft_lightning.evaluation.evaluate import count
    from nft_lightning.evaluation.results import save
    from nft_lightning.evaluation.store import Store, fingerprint

    quiet_libraries()
    ready = prepare(cfg)
    device = usable_device("device", str(cfg.device))
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    with joined():
        # Its default holds the time, which is not the same on every rank.
        store = Store(Path(from_first(lambda: str(cfg.out))))
        policy = ready.model.load(ready.plan.temperature or 1.0).to(device)
        own, started = fingerprint(policy.model), time.perf_counter()
        try:
            fill(cfg, store, ready, policy, own)
        finally:
            ready.verifier.close()
        if not first():
            return
        results, problems = count(ready.works, store)
    described = OmegaConf.to_container(OmegaConf.masked_copy(cfg, DESCRIBED), resolve=True)
    save(store.folder, results, problems, {"model_fingerprint": own, "config": described})
    show(results)
    seconds = time.perf_counter() - started
    say(f"{seconds:.0f} s. {store.folder}: results.json, results.md, problems.parquet")


def fill(cfg: DictConfig, store: Any, ready: Ready, policy: Any, own: str) -> None:
    """Answer what the store misses; a rank that fails ends all, once the others have saved theirs."""
    from nft_lightning.engines.ranks import all_made, first, from_first
    from nft_lightning.engines.weight_sync import full_tensors
    from nft_lightning.evaluation.evaluate import answer, dealt
    from nft_lightning.problems.prompts import prompt_ids
    from nft_lightning.rollouts.collector import Collector, RolloutPlan
    from nft_lightning.timing import PhaseTimer

    def prepared() -> list[tuple[str, int]]:
        judged_by = OmegaConf.to_container(cfg.verifier, resolve=True)
        protocols = {w.name: w.protocol(own, judged_by, cfg.seed) for w in ready.works}
        for name, protocol in protocols.items():
            store.check(name, protocol)
        missing = [(w.name, part) for w in ready.works for part in w.missing(store)]
        try:
            for name in {name for name, _ in missing}:
                store.begin(name, protocols[name])
        except OSError as error:
            reason = f"can not be written ({error.strerror})"
            raise UserError("out", str(store.folder), reason, "give another folder") from error
        return missing

    def encode(text: str) -> tuple[int, ...]:
        return prompt_ids(policy.tokenizer, text, ready.plan.prompt_template)

    missing = from_first(prepared)
    if first():
        say(f"Answers go to {store.folder}; an interrupted evaluation goes on with out={store.folder}")
    if not missing:
        return
    engine = ready.engine.build(policy.model, policy.tokenizer)
    engine.load_weights(full_tensors(policy.model), 0)
    context = getattr(policy.model.config, "max_position_embeddings", None)
    if probe := ready.proof.probe([encode(p.text) for p in ready.works[0].problems[:8]], context):
        ready.proof.check(engine, policy, probe, 0)
    mine, keep = dealt(missing, engine)

    def answered() -> None:
        for work in ready.works:
            judge, source = ready.verifier, work.chosen.source
            plan, timer = RolloutPlan(), PhaseTimer()
            answers = Collector(source, engine, judge, judge.rewards, encode, plan, timer)
            answer(work, mine.get(work.name, []), answers, store, cfg.seed, keep)

    all_made(answered)


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
            prepare(compose_or_explain("evaluate", sys.argv[1:])).verifier.close()
        logging.basicConfig(format="%(message)s")
        logging.getLogger("nft_lightning.evaluation").setLevel(logging.INFO)
        hydra.main(str(config_dir()), "evaluate")(lambda cfg: guarded(lambda: evaluate(cfg), debug))()

    guarded(work, debug)


if __name__ == "__main__":
    main()
