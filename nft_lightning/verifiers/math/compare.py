"""An answer against a gold, both read: what belongs to the values first, then the values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from nft_lightning.verifiers.math.expressions import equal_expressions, parse_whole
from nft_lightning.verifiers.math.kinds import compare_kinds
from nft_lightning.verifiers.math.reading import Reading

GOLDS_KEPT = 4096
UNIT = "unit"


def compare(answer: Reading, gold: Reading) -> str:
    """Return ``correct``, ``wrong`` or ``unparsable``.

    Raises:
        MemoryError, RecursionError: the worker's limits.
    """
    if answer.key == gold.key:
        return "correct"
    outcome = compare_kinds(answer.text, gold.text)
    if outcome is not None:
        return outcome
    if not answer.clear:
        return "unparsable"
    if not gold.clear or units_differ(answer, gold):
        return "wrong"
    if answer.bases and gold.bases and answer.bases != gold.bases:
        return "wrong"
    return compare_values(answer, gold)


def units_differ(answer: Reading, gold: Reading) -> bool:
    """Return True where both name units, and not the same; ``units`` is as good as any."""
    if (answer.percent and gold.units) or (gold.percent and answer.units):
        return True
    if not answer.units or not gold.units:
        return False
    if len(answer.units) != len(gold.units):
        return True
    return any(is_other(mine, theirs) for mine, theirs in zip(answer.units, gold.units, strict=True))


def is_other(unit: str, other: str) -> bool:
    """Return True for two units that are named, and not the same."""
    general = (unit.split("^")[0] == UNIT) != (other.split("^")[0] == UNIT)
    return bool(unit and other and unit != other and not general)


def compare_values(answer: Reading, gold: Reading) -> str:
    """Return the verdict on the values; a percentage is its face, and its hundredth."""
    mine = parse_whole(answer.core)
    if mine is None:
        return "unparsable"
    theirs = gold_value(gold.core)
    if theirs is None:
        return "wrong"
    if equal_expressions(theirs, mine):
        return "correct"
    if answer.percent != gold.percent:
        shares = (parse_whole(share(side)) for side in (gold, answer))
        if equal_expressions(*shares):
            return "correct"
    return "wrong"


def share(side: Reading) -> str:
    """Return the text of a percentage as a fraction of one; of anything else, as it is."""
    return f"\\frac{{{side.core}}}{{100}}" if side.percent else side.core


@lru_cache(maxsize=GOLDS_KEPT)
def gold_value(core: str) -> Any | None:
    """Return a gold's expression, parsed once."""
    return parse_whole(core)
