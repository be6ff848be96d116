"""How a rollout's completions are assigned to its updates."""

from __future__ import annotations

from typing import Any

from nft_lightning.errors import UserError

MINIBATCH_UNITS = ("auto", "completion", "group")


def resolve_minibatch_unit(minibatch_unit: str, objective: Any) -> str:
    """Return ``completion`` or ``group``: what ``auto`` is for ``objective``, anything else as it is."""
    if minibatch_unit != "auto":
        return minibatch_unit
    return "group" if objective.needed_inputs.whole_groups else "completion"


def check_minibatch_unit(minibatch_unit: str, objective: Any, field: str) -> None:
    """Raise UserError where ``objective``, given by ``field``, would see parts of groups."""
    if minibatch_unit == "completion" and objective.needed_inputs.whole_groups:
        raise UserError(
            "batching.minibatch_unit",
            minibatch_unit,
            f"tears groups apart, which {field} ({type(objective).__name__}) compares as a whole",
            "use batching.minibatch_unit=group",
        )
