"""Problems -> engine -> verifier -> kept groups -> Rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np

from nft_lightning.common.timing import PhaseTimer
from nft_lightning.distributed.ranks import several
from nft_lightning.engines.base import Engine, EngineError, Prompt, completion_seed
from nft_lightning.errors import RunStoppedError, UserError, first_line
from nft_lightning.problems.base import ProblemSource
from nft_lightning.problems.room import Room
from nft_lightning.rollouts.config import RolloutConfig
from nft_lightning.rollouts.drawn import Drawn, Namer
from nft_lightning.rollouts.metrics import rollout_metrics, usable, varied
from nft_lightning.rollouts.partition import generate_and_gather
from nft_lightning.rollouts.refill import Refill, Rounds
from nft_lightning.types import Answer, Completion, Group, Problem, Rollout, Sampling, Verdict
from nft_lightning.verifiers.base import Verifier
from nft_lightning.verifiers.rewards import RewardRules


class Collector:
    """Makes one rollout at a time. It holds no state: what it needs comes with the call.

    ``room`` says which prompts can be asked; None is all.
    """

    def __init__(
        self,
        source: ProblemSource,
        engine: Engine,
        verifier: Verifier,
        rewards: RewardRules,
        encode: Callable[[str], Prompt],
        config: RolloutConfig,
        timer: PhaseTimer,
        encode_solution: Callable[[str], Prompt] | None = None,
        room: Room | None = None,
    ) -> None:
        self.room, self.namer = room or Room(config.max_new_tokens, None), Namer()
        self.encode_solution = encode_solution
        self.source, self.engine, self.verifier = source, engine, verifier
        self.rewards, self.encode, self.config, self.timer = rewards, encode, config, timer

    def collect(
        self, cursor: int, seed: int, rollout_index: int, drop_uniform: bool
    ) -> tuple[Rollout, int]:
        """Return the rollout and the cursor behind the last problem that was drawn."""

        def keep(group: Group) -> bool:
            return usable(group) and (not drop_uniform or varied(group))

        drawn = self.drawn(cursor, seed, rollout_index)
        if self.engine.streams:
            seen = self.generate_and_refill(drawn, keep)
        else:
            seen = []
            missing = self.config.problems_per_rollout
            for _ in range(self.config.max_generation_rounds):
                groups = self.generate(drawn, len(seen), missing)
                seen += groups
                missing -= sum(map(keep, groups))
                if not missing:
                    break
        kept = tuple(filter(keep, seen))
        metrics = rollout_metrics(seen, len(kept), self.config.problems_per_rollout)
        metrics["rollout/overlong_prompt_fraction"] = drawn.refused_fraction
        self.namer.tell(drawn)
        return Rollout(kept, self.engine.policy_version, metrics), drawn.cursor

    def generate_and_refill(self, drawn: Drawn, keep: Callable[[Group], bool]) -> list[Group]:
        """Return what rounds of :meth:`generate` would give, with verification beside generation."""
        rounds = Rounds(0, self.config.problems_per_rollout, self.config.max_generation_rounds)
        refill = Refill(
            rounds,
            lambda number: drawn[number],
            lambda problems, prompts, answers: self.score(problems, prompts, answers),
            keep,
        )
        with self.timer.phase("generate"):
            groups = refill.run(self.engine, self.config.sampling)
        answers = [g.completions for g in groups]
        asked = [range(self.config.completions_per_problem)] * len(groups)
        check_answers(answers, asked, self.engine.policy_version)
        self.timer.tokens["generate"] += sum(len(c.token_ids) for group in answers for c in group)
        self.timer.seconds["verify"] += refill.verify_seconds
        return groups

    def drawn(self, cursor: int, seed: int, rollout_index: int) -> Drawn:
        """Return the questions of a rollout: problems from ``cursor`` on, prompts, completions'
        seeds.
        """
        count = self.config.completions_per_problem

        def seeds(position: int) -> list[int]:
            return [completion_seed(seed, "train", rollout_index, position, k) for k in range(count)]

        start = 0 if self.config.same_problems else cursor
        return Drawn(lambda i: self.source.problem(i, seed), self.encode, seeds, self.room, start)

    def read_solutions(self, cursor: int, seed: int, version: int) -> tuple[Rollout, int]:
        """Return the data set's worked solutions in place of completions, as if weights of ``version``
        had written them; problems without one are left out.
        """
        if self.encode_solution is None:
            raise RuntimeError("reading solutions needs a way to encode them")
        count, limit = self.config.problems_per_rollout, self.config.max_new_tokens
        groups = []
        drawn = self.drawn(cursor, seed, 0)
        for question in (drawn[i] for i in range(count)):
            problem = question.problem
            if problem.solution is None:
                continue
            ids = self.encode_solution(problem.solution)
            kept = ids[:limit]
            nothing = np.zeros(len(kept), np.float32)
            written = Completion(np.array(kept), problem.solution, nothing, len(ids) > limit, version)
            verdict = Verdict("correct", problem.answer)
            groups.append(Group(problem, question.prompt, (written,), (verdict,), (1.0,)))
        self.namer.tell(drawn)
        tokens = sum(len(g.completions[0].token_ids) for g in groups)
        metrics = {
            "rollout/kept_group_fraction": len(groups) / count,
            "rollout/response_length_mean_tokens": tokens / max(1, len(groups)),
            "rollout/completions": float(len(groups)),
            "rollout/tokens": float(tokens),
            "rollout/overlong_prompt_fraction": drawn.refused_fraction,
        }
        return Rollout(tuple(groups), version, metrics), drawn.cursor

    def generate(self, drawn: Drawn, start: int, count: int) -> list[Group]:
        """``count`` questions from number ``start`` on, answered, scored, each by one rank for all."""
        asked = [drawn[i] for i in range(start, start + count)]

        def write(indices: list[int]) -> list[Group]:
            problems, seeds = ([getattr(asked[i], n) for i in indices] for n in ("problem", "seeds"))
            return self.answer(problems, self.config.sampling, seeds)

        with self.timer.phase("gather") if several() else nullcontext():
            return generate_and_gather(self.engine, [q.prompt for q in asked], write)

    def answer(
        self,
        problems: Sequence[Problem],
        sampling: Sampling,
        seeds: Sequence[Sequence[int]],
        phases: tuple[str, str] = ("generate", "verify"),
    ) -> list[Group]:
        """Return groups for the given problems; seconds and tokens are counted under ``phases``."""
        prompts = [self.encode(p.text) for p in problems]
        with self.timer.phase(phases[0]):
            answers = self.generated(prompts, sampling, seeds)
        self.timer.tokens[phases[0]] += sum(len(c.token_ids) for group in answers for c in group)
        check_answers(answers, seeds, self.engine.policy_version)
        with self.timer.phase(phases[1]):
            return self.score(problems, prompts, answers)

    def score(
        self,
        problems: Sequence[Problem],
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[Completion]],
    ) -> list[Group]:
        """Return groups with their verdicts and rewards."""
        given = [
            Answer(problem, prompt, completion)
            for problem, prompt, completions in zip(problems, prompts, answers, strict=True)
            for completion in completions
        ]
        verdicts = iter(self.verifier.score(given))
        groups = []
        for problem, prompt, completions in zip(problems, prompts, answers, strict=True):
            scored = tuple(next(verdicts) for _ in completions)
            # NaN marks a verdict that counts as nothing; the group is then left out.
            rewards = tuple(self.rewards.reward_for(v) for v in scored)
            groups.append(Group(problem, prompt, tuple(completions), scored, rewards))
        return groups

    def generated(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """Return what the engine writes; where it fails the run stops with a sentence, and can be
        resumed.
        """
        try:
            return self.engine.generate(prompts, sampling, seeds)
        except (UserError, EngineError, RunStoppedError):
            raise
        except Exception as error:
            reason = first_line(error)
            raise RunStoppedError(
                f"the engine failed while it wrote completions ({type(error).__name__}: {reason}); "
                "--debug shows where, and resume continues from the last checkpoint"
            ) from error


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
