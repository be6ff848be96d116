"""How a rollout's completions are assigned to its updates."""

from __future__ import annotations

from typing import Any

from nft_lightning.errors import UserError

MINIBATCH_UNITS = ("group", "completion")


def check_minibatch_unit(minibatch_unit: str, objective: Any, field: str) -> None:
    """Raise UserError where ``objective``, given by ``field``, would see parts of groups."""
    if minibatch_unit == "completion" and objective.needed_inputs.whole_groups:
        raise UserError(
            "batching.minibatch_unit",
            minibatch_unit,
            f"tears groups apart, which {field} ({type(objective).__name__}) compares as a whole",
            "use groups",
        )
