"""What a file that cannot be written means for the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nft_lightning.common.bounds import check_field
from nft_lightning.errors import RunStoppedError

log = logging.getLogger(__name__)
WRITE_RULES = ("continue", "stop")


def check_write_rule(rule: str, field: str) -> str:
    """Return ``rule``; UserError for one that does not exist."""
    check_field(field, rule, choices=WRITE_RULES)
    return rule


@contextmanager
def written(what: Path, rule: str) -> Iterator[None]:
    """Yield a full disk or the like ends the run, or costs it only this file, by ``rule``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if rule == "stop":
            raise RunStoppedError(f"{what} could not be written ({reason})") from error
        log.warning("%s could not be written (%s); the run continues without", what, reason)
