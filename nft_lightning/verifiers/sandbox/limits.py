"""What a pool of workers may be asked for."""

from __future__ import annotations

from nft_lightning.errors import UserError


def check_limits(workers: int, timeout_seconds: float, memory_limit_mb: int) -> None:
    """Raise UserError where no worker, no deadline or too little memory is given."""
    if workers < 1:
        raise UserError("verifier.workers", workers, "starts nobody", "use 1 or more")
    if not 0 < timeout_seconds < float("inf"):
        raise UserError("verifier.timeout_seconds", timeout_seconds, "is no deadline", "use 3")
    if memory_limit_mb < 256:
        raise UserError(
            "verifier.memory_limit_mb", memory_limit_mb, "does not hold sympy", "use 256 or more"
        )
