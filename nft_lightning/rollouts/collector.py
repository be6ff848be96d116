"""Problems -> engine -> verifier -> kept groups -> Rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from nft_lightning.distributed.ranks import several
from nft_lightning.engines.base import Engine, EngineError, Prompt, completion_seed
from nft_lightning.errors import RunStoppedError, UserError
from nft_lightning.problems.base import ProblemSource
from nft_lightning.rollouts.refill import Question, Refill, Rounds
from nft_lightning.rollouts.shares import written_together
from nft_lightning.timing import PhaseTimer
from nft_lightning.types import OUTCOMES, Completion, Group, Problem, Rollout, Sampling, Verdict
from nft_lightning.verifiers.base import RewardRules, Verifier


@dataclass(frozen=True)
class RolloutPlan:
    """How much a rollout generates.

    Attributes:
        problems_per_rollout: groups that one epoch trains on, at most.
        completions_per_problem: K.
        max_generation_rounds: with an algorithm that drops uniform groups, how often missing
            groups are refilled, the first round included (dynamic sampling).
        max_new_tokens, temperature, top_p, top_k: the sampling of training completions.
    """

    problems_per_rollout: int = 64
    completions_per_problem: int = 8
    max_generation_rounds: int = 2
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        for name in ("problems_per_rollout", "completions_per_problem", "max_generation_rounds"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"rollout.plan.{name}", getattr(self, name), "is below 1", "use 1 or more"
                )
        if self.max_new_tokens < 1:
            raise UserError(
                "rollout.plan.max_new_tokens", self.max_new_tokens, "is below 1", "use 1 or more"
            )
        if self.temperature <= 0:
            raise UserError(
                "rollout.plan.temperature", self.temperature, "leaves nothing to learn from", "use 1.0"
            )
        if self.top_p != 1 or self.top_k != 0:
            field = "rollout.plan.top_p" if self.top_p != 1 else "rollout.plan.top_k"
            raise UserError(
                field,
                self.top_p if self.top_p != 1 else self.top_k,
                "biases every ratio, because the trainer's log-probabilities know no such filter",
                "train with top_p=1 and top_k=0; filters belong to evaluation",
            )

    @property
    def sampling(self) -> Sampling:
        """As the engines take it."""
        return Sampling(self.temperature, self.max_new_tokens)


class Collector:
    """Makes one rollout at a time. It holds no state: what it needs comes with the call."""

    def __init__(
        self,
        source: ProblemSource,
        engine: Engine,
        verifier: Verifier,
        rewards: RewardRules,
        encode: Callable[[str], Prompt],
        plan: RolloutPlan,
        timer: PhaseTimer,
        encode_solution: Callable[[str], Prompt] | None = None,
    ) -> None:
        self.encode_solution = encode_solution
        self.source, self.engine, self.verifier = source, engine, verifier
        self.rewards, self.encode, self.plan, self.timer = rewards, encode, plan, timer

    def collect(
        self, cursor: int, seed: int, rollout_index: int, drop_uniform: bool
    ) -> tuple[Rollout, int]:
        """The rollout and the cursor behind the last problem that was drawn."""

        def keep(group: Group) -> bool:
            return usable(group) and (not drop_uniform or varied(group))

        if getattr(self.engine, "follows", False):
            seen = self.generate_and_refill(cursor, seed, rollout_index, keep)
        else:
            seen = []
            missing = self.plan.problems_per_rollout
            for _ in range(self.plan.max_generation_rounds):
                groups = self.generate(cursor + len(seen), missing, seed, rollout_index)
                seen += groups
                missing -= sum(map(keep, groups))
                if not missing:
                    break
        kept = tuple(filter(keep, seen))
        metrics = rollout_metrics(seen, len(kept), self.plan.problems_per_rollout)
        return Rollout(kept, self.engine.policy_version, metrics), cursor + len(seen)

    def generate_and_refill(
        self, cursor: int, seed: int, rollout_index: int, keep: Callable[[Group], bool]
    ) -> list[Group]:
        """What rounds of :meth:`generate` would give, with verification beside generation."""
        rounds = Rounds(cursor, self.plan.problems_per_rollout, self.plan.max_generation_rounds)
        refill = Refill(
            rounds,
            lambda position: self.question(position, seed, rollout_index),
            lambda problems, prompts, answers: self.judge(problems, prompts, answers),
            keep,
        )
        with self.timer.phase("generate"):
            groups = refill.run(self.engine, self.plan.sampling)
        answers = [g.completions for g in groups]
        asked = [range(self.plan.completions_per_problem)] * len(groups)
        check_answers(answers, asked, self.engine.policy_version)
        self.timer.tokens["generate"] += sum(len(c.token_ids) for group in answers for c in group)
        self.timer.seconds["verify"] += refill.verify_seconds
        return groups

    def question(self, position: int, seed: int, rollout_index: int) -> Question:
        """The problem at a position of the stream, its prompt and its completions' seeds."""
        problem = self.source.problem(position, seed)
        count = self.plan.completions_per_problem
        seeds = [completion_seed(seed, "train", rollout_index, position, k) for k in range(count)]
        return Question(problem, self.encode(problem.text), seeds)

    def read_solutions(self, cursor: int, seed: int) -> tuple[Rollout, int]:
        """The data set's worked solutions in place of completions; problems without one are left out."""
        if self.encode_solution is None:
            raise RuntimeError("reading solutions needs a way to encode them")
        count, limit = self.plan.problems_per_rollout, self.plan.max_new_tokens
        version, groups = self.engine.policy_version, []
        for problem in (self.source.problem(i, seed) for i in range(cursor, cursor + count)):
            if problem.solution is None:
                continue
            ids = self.encode_solution(problem.solution)
            kept = ids[:limit]
            written = Completion(kept, problem.solution, (0.0,) * len(kept), len(ids) > limit, version)
            verdict = Verdict("correct", problem.answer)
            groups.append(Group(problem, self.encode(problem.text), (written,), (verdict,), (1.0,)))
        tokens = sum(len(g.completions[0].token_ids) for g in groups)
        metrics = {
            "rollout/kept_group_fraction": len(groups) / count,
            "rollout/response_length_mean_tokens": tokens / max(1, len(groups)),
            "rollout/completions": float(len(groups)),
            "rollout/tokens": float(tokens),
        }
        return Rollout(tuple(groups), version, metrics), cursor + count

    def generate(self, cursor: int, count: int, seed: int, rollout_index: int) -> list[Group]:
        """``count`` problems from ``cursor`` on, answered and judged, each by one rank for all."""
        asked = [self.question(i, seed, rollout_index) for i in range(cursor, cursor + count)]

        def write(indices: list[int]) -> list[Group]:
            problems, seeds = ([getattr(asked[i], n) for i in indices] for n in ("problem", "seeds"))
            return self.answer(problems, self.plan.sampling, seeds)

        with self.timer.phase("gather") if several() else nullcontext():
            return written_together(self.engine, [q.prompt for q in asked], write)

    def answer(
        self,
        problems: Sequence[Problem],
        sampling: Sampling,
        seeds: Sequence[Sequence[int]],
        phases: tuple[str, str] = ("generate", "verify"),
    ) -> list[Group]:
        """Groups for the given problems; seconds and tokens are counted under ``phases``."""
        prompts = [self.encode(p.text) for p in problems]
        with self.timer.phase(phases[0]):
            answers = self.generated(prompts, sampling, seeds)
        self.timer.tokens[phases[0]] += sum(len(c.token_ids) for group in answers for c in group)
        check_answers(answers, seeds, self.engine.policy_version)
        with self.timer.phase(phases[1]):
            return self.judge(problems, prompts, answers)

    def judge(
        self,
        problems: Sequence[Problem],
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[Completion]],
    ) -> list[Group]:
        """Groups with their verdicts and rewards."""
        verdicts = iter(
            self.verifier.verify(
                [c.text for group in answers for c in group],
                [p.answer for p, group in zip(problems, answers, strict=True) for _ in group],
                [c.truncated for group in answers for c in group],
            )
        )
        groups = []
        for problem, prompt, completions in zip(problems, prompts, answers, strict=True):
            judged = tuple(next(verdicts) for _ in completions)
            # NaN marks a verdict that counts as nothing; the group is then left out.
            rewards = tuple(self.rewards.worth(v) for v in judged)
            groups.append(Group(problem, prompt, tuple(completions), judged, rewards))
        return groups

    def generated(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """What the engine writes; where it fails the run stops with a sentence, and can be resumed."""
        try:
            return self.engine.generate(prompts, sampling, seeds)
        except (UserError, EngineError, RunStoppedError):
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunStoppedError(
                f"the engine failed while it wrote completions ({type(error).__name__}: {reason}); "
                "--debug shows where, and resume goes on from the last checkpoint"
            ) from error


def usable(group: Group) -> bool:
    """No reward of the group is undefined."""
    return all(r == r for r in group.rewards)


def varied(group: Group) -> bool:
    """The rewards differ, so that there is something to learn."""
    return min(group.rewards) < max(group.rewards)


def check_answers(
    answers: Sequence[Sequence[Completion]], seeds: Sequence[Sequence[int]], version: int
) -> None:
    """EngineError unless every prompt got all its completions, from the current weights."""
    given, asked = [len(a) for a in answers], [len(s) for s in seeds]
    if given != asked:
        raise EngineError(
            f"the engine returned {sum(given)} completions where {sum(asked)} were asked: see its log"
        )
    stale = {c.policy_version for group in answers for c in group} - {version}
    if stale:
        raise EngineError(f"completions of policy version {min(stale)} met version {version}")


def rollout_metrics(seen: Sequence[Group], kept: int, wanted: int) -> dict[str, float]:
    """What a rollout looked like before anything was left out."""
    completions = [c for g in seen for c in g.completions]
    outcomes = Counter(v.outcome for g in seen for v in g.verdicts)
    total = len(completions)
    tokens = sum(len(c.token_ids) for c in completions)
    valid = [g for g in seen if usable(g)]
    share = {
        "all_right": sum(g.accuracy == 1 for g in valid),
        "all_wrong": sum(g.accuracy == 0 for g in valid),
    }
    metrics = {
        "rollout/accuracy": sum(g.accuracy for g in valid) / max(1, len(valid)),
        "rollout/all_right_group_fraction": share["all_right"] / max(1, len(valid)),
        "rollout/all_wrong_group_fraction": share["all_wrong"] / max(1, len(valid)),
        "rollout/kept_group_fraction": kept / wanted,
        "rollout/response_length_mean_tokens": tokens / total,
        "rollout/truncated_fraction": sum(c.truncated for c in completions) / total,
        "rollout/completions": float(total),
        "rollout/tokens": float(tokens),
    }
    metrics.update({f"verdict/{o}_fraction": outcomes[o] / total for o in OUTCOMES})
    parts = [v.parts for g in seen for v in g.verdicts if v.parts]
    for name in parts[0] if parts else ():
        known = [p[name] for p in parts if p[name] == p[name]]
        metrics[f"verdict/part_{name}_mean"] = sum(known) / max(1, len(known))
    return metrics
