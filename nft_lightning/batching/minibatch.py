"""How a rollout's completions are dealt to its updates."""

from __future__ import annotations

from typing import Any

from nft_lightning.errors import UserError

WAYS = ("groups", "completions")


def check_deal(deal: str, objective: Any, field: str) -> None:
    """Raise UserError where ``objective``, given by ``field``, would see parts of groups."""
    if deal == "completions" and objective.needs.whole_groups:
        raise UserError(
            "batching.deal",
            deal,
            f"tears groups apart, which {field} ({type(objective).__name__}) compares as a whole",
            "use groups",
        )
