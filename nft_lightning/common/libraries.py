"""Libraries that come with an extra of the package."""

from __future__ import annotations

import importlib.util
from typing import Any

from nft_lightning.errors import UserError


def check_library(field: str, given: Any, library: str, extra: str, otherwise: str = "") -> None:
    """Raise UserError where ``library``, which comes with ``extra``, is not installed."""
    if importlib.util.find_spec(library) is None:
        remedy = f"run in the clone: pip install '.[{extra}]'{otherwise}"
        raise UserError(field, given, f"needs {library}", remedy)
