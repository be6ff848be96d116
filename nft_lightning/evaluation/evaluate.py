"""Answer what is missing, judge it, save it; then count."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch.distributed as dist

from nft_lightning.common.timing import PhaseTimer
from nft_lightning.distributed.ranks import all_made, several
from nft_lightning.engines.base import Engine, Prompt, completion_seed
from nft_lightning.engines.weight_sync import full_tensors
from nft_lightning.errors import UserError
from nft_lightning.evaluation.config import EvalPlan, EvalSet
from nft_lightning.evaluation.results import ProblemResult, SetResult, evaluate_set
from nft_lightning.evaluation.store import Store
from nft_lightning.policy.policy import Policy
from nft_lightning.rollouts.collector import Collector
from nft_lightning.rollouts.config import RolloutPlan
from nft_lightning.rollouts.partition import writers
from nft_lightning.rollouts.sync_check import SyncProof
from nft_lightning.types import Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """One set of a plan with its problems, cut into parts.

    ``left_out`` are those that cannot be asked: they are answered and counted nowhere, and ``told``
    is a line about them.
    """

    name: str
    plan: EvalPlan
    chosen: EvalSet
    problems: Sequence[Problem]
    left_out: Sequence[Problem] = ()
    told: str = ""

    @property
    def parts(self) -> list[range]:
        """The positions of each part's problems."""
        size = self.plan.problems_per_part
        return [range(i, min(i + size, len(self.problems))) for i in range(0, len(self.problems), size)]

    def protocol(self, model: str, verifier: Any, seed: int) -> dict[str, Any]:
        """What the answers depend on; two runs with the same protocol may share them."""
        return {
            "model": model,
            "verifier": verifier,
            "seed": seed,
            "sampling": plain(asdict(self.plan.sampling)),
            "prompt": plain(asdict(self.plan.prompt)) | {"jinja": self.plan.prompt.jinja},
            "completions_per_problem": self.chosen.completions_per_problem,
            "problems_per_part": self.plan.problems_per_part,
            "problem_ids": [p.id for p in self.problems],
        }

    def missing(self, store: Store) -> list[int]:
        """The parts that are not on disk."""
        return [i for i in range(len(self.parts)) if not store.done(self.name, i)]


@dataclass(frozen=True)
class Means:
    """What is answered, and by which means.

    Attributes:
        engine: its configuration; judged_by: that of ``verifier``, as plain data.
        context_tokens: the longest prompt and answer; None is without limit.
    """

    plan: EvalPlan
    works: Sequence[Work]
    engine: Any
    proof: SyncProof
    verifier: Any
    judged_by: Any
    seed: int
    context_tokens: int | None = None


def begin(means: Means, store: Store, model: str) -> list[tuple[str, int]]:
    """The parts of each set that ``store`` misses, where it may take them; ``model``: a fingerprint.

    Raises:
        UserError: it holds answers under another protocol, or can not be written.
    """
    protocols = {w.name: w.protocol(model, means.judged_by, means.seed) for w in means.works}
    for name, protocol in protocols.items():
        store.check(name, protocol)
    missing = [(w.name, part) for w in means.works for part in w.missing(store)]
    try:
        for name in {name for name, _ in missing}:
            store.begin(name, protocols[name])
    except OSError as error:
        reason = f"can not be written ({error.strerror})"
        raise UserError("out", str(store.folder), reason, "give another folder") from error
    return missing


def fill(means: Means, store: Store, policy: Policy, missing: Sequence[tuple[str, int]]) -> None:
    """Answer what is missing; a rank that fails ends all, once the others have saved theirs."""

    def encode(text: str) -> Prompt:
        ids: Prompt = means.plan.prompt.encode(policy.tokenizer, text, "eval.plan.prompt")
        return ids

    engine = means.engine.build(policy.model, policy.tokenizer)
    engine.load_weights(full_tensors(policy.model), 0)
    probed = [encode(p.text) for p in means.works[0].problems[:8]]
    if probe := means.proof.probe(probed, means.context_tokens):
        means.proof.check(engine, policy, probe, 0)
    mine, keep = dealt(missing, engine)

    def answered() -> None:
        for work in means.works:
            judge, source = means.verifier, work.chosen.source
            plan, timer = RolloutPlan(), PhaseTimer()
            answers = Collector(source, engine, judge, judge.rewards, encode, plan, timer)
            answer(work, mine.get(work.name, []), answers, store, means.seed, keep)

    all_made(answered)


def answer(
    work: Work, parts: Sequence[int], collector: Collector, store: Store, seed: int, keep: bool = True
) -> None:
    """Some parts of a set, one after another; ``keep`` is for the one who saves them."""
    k = work.chosen.completions_per_problem
    for part in parts:
        positions = work.parts[part]
        seeds = [
            [completion_seed(seed, f"eval/{work.name}", 0, i, j) for j in range(k)] for i in positions
        ]
        groups = collector.answer([work.problems[i] for i in positions], work.plan.sampling, seeds)
        if keep:
            store.add(work.name, part, groups)
            log.info("%s: part %d of %d", work.name, part + 1, len(work.parts))


def dealt(missing: Sequence[tuple[str, int]], engine: Engine) -> tuple[dict[str, list[int]], bool]:
    """This rank's parts of each set, and whether it saves them: ranks of one engine write the same."""
    place, shares = writers(engine)
    mine: dict[str, list[int]] = {}
    for name, part in missing[place::shares]:
        mine.setdefault(name, []).append(part)
    return mine, not several() or dist.get_rank() == place * (dist.get_world_size() // shares)


def plain(data: dict[str, Any]) -> dict[str, Any]:
    """The same data as JSON gives it back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}


def count(works: Sequence[Work], store: Store) -> tuple[list[SetResult], list[ProblemResult]]:
    """The numbers of every set, and of every problem."""
    found = [evaluate_set(w.name, store.read(w.name), w.chosen.in_mean) for w in works]
    return [result for result, _ in found], [p for _, problems in found for p in problems]
