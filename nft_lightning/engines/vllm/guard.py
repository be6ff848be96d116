"""A key on every endpoint of a server: vLLM's own ``--api-key`` leaves weight updates open."""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

OPEN = ("/health", "/version")


async def require_key(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    """ASGI middleware: 401 unless the request carries ``VLLM_API_KEY`` as its bearer token."""
    from starlette.responses import JSONResponse

    wanted = f"Bearer {os.environ['VLLM_API_KEY']}"
    given = request.headers.get("Authorization", "")
    if request.url.path in OPEN or hmac.compare_digest(given.encode(), wanted.encode()):
        return await call_next(request)
    return JSONResponse({"error": "the API key is missing or wrong"}, status_code=401)
