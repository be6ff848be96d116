"""The teacher of on-policy distillation: a frozen model that scores the policy's completions."""

from __future__ import annotations

from nft_lightning.errors import UserError
from nft_lightning.policy.other_model import load_other
from nft_lightning.policy.policy import Policy

FIELD = "algorithm.teacher_path"


def load_teacher(path: str | None, policy: Policy) -> Policy:
    """Return the teacher, whose log-probabilities are computed as the policy's.

    Raises:
        UserError: no path, or the model at it cannot be read, or reads other tokens than the policy.
    """
    check_given(path)
    assert path is not None
    teacher = load_other(FIELD, path, policy)
    if policy.config is not None:
        teacher.fused = policy.config.fused(teacher.model, policy.temperature)
    return teacher.requires_grad_(False)


def check_given(path: str | None) -> None:
    """Raise UserError where there is no path."""
    if path is None:
        remedy = "give the folder or hub name of a model with the policy's tokens"
        raise UserError(FIELD, None, "is missing", remedy)
