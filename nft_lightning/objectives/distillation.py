"""On-policy distillation: the policy's own completions, scored token by token by a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nft_lightning.common.bounds import bounded
from nft_lightning.objectives.base import Objective, Outcomes, every_row
from nft_lightning.objectives.contract import RequiredInputs
from nft_lightning.objectives.tensors import masked_pair, needed, widen
from nft_lightning.types import Signal, TokenLoss

BY_TEACHER = "learns from a teacher and not from rewards"


@dataclass(frozen=True, kw_only=True)
class Distillation(Objective):
    """On-policy distillation: a policy gradient whose advantage is the teacher's log-ratio of a token.

    With A = log pi_teacher - log pi_old of the sampled token, and every ratio 1, the gradient is in
    expectation that of KL(pi, pi_teacher) over the next token, summed over the prefixes that the policy
    writes (reverse KL on the student's own samples). Verdicts are only logged.

    Right: ``A R``
    Wrong: ``A R``, whatever the verdict
    Source: arXiv 2306.13649; arXiv 2306.08543

    Attributes:
        teacher_path: a folder or hub name of the teacher, a model with the policy's tokens.
        advantage_clip: A is kept within [-advantage_clip, advantage_clip].
    """

    required_inputs: ClassVar[RequiredInputs] = RequiredInputs(reference_logprobs=True, teacher=True)
    unsupported_options: ClassVar[Mapping[str, str]] = {
        "kl_coefficient": "already minimises the KL to its teacher",
        "drop_uniform_groups": BY_TEACHER,
        "overlong_buffer_fraction": BY_TEACHER,
        "dual_clip": BY_TEACHER,
        "off_policy_mask": BY_TEACHER,
        "prompt_weight": BY_TEACHER,
    }
    teacher_path: str | None = None
    advantage_clip: float = bounded(10.0, above=0, use="10")

    @property
    def teacher_model(self) -> str | None:
        """Return ``teacher_path``."""
        return self.teacher_path

    def prepare(self, outcomes: Outcomes) -> Signal:
        """Return every row, as one that takes part."""
        return every_row(outcomes)

    def token_loss(
        self, logprobs: Tensor, old_logprobs: Tensor | None, mask: Tensor, signal: Mapping[str, Tensor]
    ) -> TokenLoss:
        """See :meth:`nft_lightning.objectives.base.Objective.token_loss`."""
        teacher = widen(needed(signal, "reference_logprobs", type(self).__name__))
        log_ratio, ratio = self.ratio(logprobs, old_logprobs)
        old = (widen(logprobs) - log_ratio).detach()
        advantage = (teacher - old).clamp(-self.advantage_clip, self.advantage_clip)
        return TokenLoss(-ratio * advantage, {"teacher_gap": masked_pair(old - teacher, mask)})
