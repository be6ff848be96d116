"""Answer what is missing, score it, save it; then count."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch.distributed as dist

from nft_lightning.common.timing import PhaseTimer
from nft_lightning.distributed.ranks import gather_or_raise, several
from nft_lightning.engines.base import Engine, Prompt, completion_seed
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.evaluation.config import EvalConfig, EvalSet
from nft_lightning.evaluation.results import ProblemResult, SetResult, evaluate_set
from nft_lightning.evaluation.store import Store
from nft_lightning.policy.policy import Policy
from nft_lightning.rollouts.collector import Collector
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.rollouts.partition import engine_copies
from nft_lightning.rollouts.sync_check import SyncCheck
from nft_lightning.types import Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalTask:
    """One set of an evaluation with its problems, cut into parts.

    ``left_out`` are those that cannot be asked: they are answered and counted nowhere, and ``told``
    is a line about them.
    """

    name: str
    config: EvalConfig
    chosen: EvalSet
    problems: Sequence[Problem]
    left_out: Sequence[Problem] = ()
    told: str = ""

    @property
    def parts(self) -> list[range]:
        """Return the positions of each part's problems."""
        size = self.config.problems_per_part
        return [range(i, min(i + size, len(self.problems))) for i in range(0, len(self.problems), size)]

    def protocol(self, model: str, verifier: Any, seed: int) -> dict[str, Any]:
        """Return what the answers depend on; two runs with the same protocol may share them."""
        return {
            "model": model,
            "verifier": verifier,
            "seed": seed,
            "sampling": plain(asdict(self.config.sampling)),
            "prompt": plain(asdict(self.config.prompt)) | {"jinja": self.config.prompt.jinja},
            "completions_per_problem": self.chosen.completions_per_problem,
            "problems_per_part": self.config.problems_per_part,
            "problem_ids": [p.id for p in self.problems],
        }

    def missing(self, store: Store) -> list[int]:
        """Return the parts that are not on disk."""
        return [i for i in range(len(self.parts)) if not store.done(self.name, i)]


@dataclass(frozen=True)
class EvalContext:
    """What is answered, and by which context.

    Attributes:
        engine: its configuration; judged_by: that of ``verifier``, as plain data.
        context_tokens: the longest prompt and answer; None is without limit.
    """

    config: EvalConfig
    tasks: Sequence[EvalTask]
    engine: Any
    sync_check: SyncCheck
    verifier: Any
    judged_by: Any
    seed: int
    context_tokens: int | None = None


def begin(context: EvalContext, store: Store, model: str) -> list[tuple[str, int]]:
    """Return the parts of each set that ``store`` misses, where it may take them; ``model``: a
    fingerprint.

    Raises:
        UserError: it holds answers under another protocol, or cannot be written.
    """
    protocols = {w.name: w.protocol(model, context.judged_by, context.seed) for w in context.tasks}
    for name, protocol in protocols.items():
        store.check(name, protocol)
    missing = [(w.name, part) for w in context.tasks for part in w.missing(store)]
    try:
        for name in {name for name, _ in missing}:
            store.begin(name, protocols[name])
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise UserError("out", str(store.folder), reason, "give another folder") from error
    return missing


def fill(context: EvalContext, store: Store, policy: Policy, missing: Sequence[tuple[str, int]]) -> None:
    """Answer what is missing; a rank that fails ends all, once the others have saved theirs."""

    def encode(text: str) -> Prompt:
        ids: Prompt = context.config.prompt.encode(policy.tokenizer, text, "eval.prompt")
        return ids

    engine = context.engine.build(policy.model, policy.tokenizer)
    engine.load_weights(full_tensors(policy.model), 0)
    probed = [encode(p.text) for p in context.tasks[0].problems[:8]]
    if probe := context.sync_check.probe(probed, context.context_tokens):
        context.sync_check.check(engine, policy, probe, 0)
    mine, keep = dealt(missing, engine)

    def answered() -> None:
        for task in context.tasks:
            judge, source = context.verifier, task.chosen.source
            config, timer = RolloutConfig(), PhaseTimer()
            answers = Collector(source, engine, judge, judge.rewards, encode, config, timer)
            answer(task, mine.get(task.name, []), answers, store, context.seed, keep)

    gather_or_raise(answered)


def answer(
    task: EvalTask,
    parts: Sequence[int],
    collector: Collector,
    store: Store,
    seed: int,
    keep: bool = True,
) -> None:
    """Some parts of a set, one after another; ``keep`` is for the one who saves them."""
    k = task.chosen.completions_per_problem
    for part in parts:
        positions = task.parts[part]
        seeds = [
            [completion_seed(seed, f"eval/{task.name}", 0, i, j) for j in range(k)] for i in positions
        ]
        groups = collector.answer([task.problems[i] for i in positions], task.config.sampling, seeds)
        if keep:
            store.add(task.name, part, groups)
            log.info("%s: part %d of %d", task.name, part + 1, len(task.parts))


def dealt(missing: Sequence[tuple[str, int]], engine: Engine) -> tuple[dict[str, list[int]], bool]:
    """This rank's parts of each set, and whether it saves them: ranks of one engine write the same."""
    place, shares = engine_copies(engine)
    mine: dict[str, list[int]] = {}
    for name, part in missing[place::shares]:
        mine.setdefault(name, []).append(part)
    return mine, not several() or dist.get_rank() == place * (dist.get_world_size() // shares)


def plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return the same data as JSON gives it back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}


def count(tasks: Sequence[EvalTask], store: Store) -> tuple[list[SetResult], list[ProblemResult]]:
    """Return the numbers of every set, and of every problem."""
    found = [evaluate_set(w.name, store.read(w.name), w.chosen.in_mean) for w in tasks]
    return [result for result, _ in found], [p for _, problems in found for p in problems]
