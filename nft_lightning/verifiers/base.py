"""The verifier's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nft_lightning.errors import UserError
from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.rewards import RewardRules

if TYPE_CHECKING:
    # Worker processes import this module, and have no need of torch.
    from nft_lightning.types import Answer, Problem


class Verifier:
    """Scores completions.

    One that reads texts only has ``verify``; one that needs the problem's other columns, the prompt or
    token ids overrides ``score``, and ``check_problems`` where not every problem has them. Its verdicts
    may carry scores that are not 0 or 1: then ``is_continuous`` says so, and an algorithm that needs
    binary rewards refuses it. ``reward_range`` says where such scores are, if that is known.

    Attributes:
        rewards: what each outcome is worth.
    """

    rewards: RewardRules

    def is_continuous(self) -> bool:
        """Return whether rewards may be between right and wrong."""
        return False

    def reward_range(self) -> tuple[float, float] | None:
        """Return the least and the largest reward; None where they are not known."""
        return None if self.is_continuous() else self.rewards.range()

    def check_problems(self, problems: Sequence[Problem]) -> None:
        """Raise UserError for problems that cannot be scored; called before a run starts."""
        for problem in problems:
            if not problem.answer:
                raise UserError(
                    "verifier",
                    type(self).__name__,
                    f"cannot score {problem.id}, which has no answer of its own",
                    "use verifier=reasoning_gym, or other problems",
                )

    def score(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Return one verdict for each answer, in the same order."""
        return self.verify(
            [a.completion.text for a in answers],
            [a.problem.answer for a in answers],
            [a.completion.truncated for a in answers],
        )

    def verify(
        self,
        completions: Sequence[str],
        golds: Sequence[str],
        truncated: Sequence[bool] | None = None,
    ) -> list[Verdict]:
        """Return one verdict for each completion, in the same order.

        ``truncated`` says which completions met the token limit; None means that none did.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End whatever was started."""
