"""What every answer of the page carries, and which requests get none."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def host_of(header: str) -> str:
    """Return the host without its port."""
    name, colon, port = header.rpartition(":")
    return name if colon and port.isdigit() else header


class Guard:
    """Refuses names other than the loopback's (a page elsewhere may rebind its own name to it).

    Requests that another site's page makes are refused as well.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on with the headers added."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        refusal = None
        if host_of(headers.get("host", "")).lower() not in LOOPBACK:
            refusal = PlainTextResponse("This page answers to loopback addresses only.\n", 421)
        elif headers.get("sec-fetch-site", "none") == "cross-site":
            refusal = PlainTextResponse("Open this page itself, not from another site.\n", 403)
        await (refusal or self.app)(scope, receive, guarded_send)
