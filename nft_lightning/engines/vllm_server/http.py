"""One vLLM server, as the trainer sees it: JSON over HTTP, and what can go wrong."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from nft_lightning.engines.base import EngineError
from nft_lightning.errors import UserError

READ_BYTES = 1 << 16
HEALTH_SECONDS = 5.0


class ServerError(Exception):
    """A request that another try, another server or a fresh sync may answer.

    ``gone``: nobody listens, or the server holds other weights: it is of no use before a sync.
    """

    def __init__(self, address: str, came: str, remedy: str, gone: bool = False) -> None:
        super().__init__(f"the vLLM server at {address} {came}: {remedy}")
        self.gone = gone


class Server:
    """An address, its state and its faults.

    Attributes:
        up: takes requests; False from the time it is given up until the next sync.
        fault: what happened last, for the final sentence.
        failures: bursts of faults in a row.
        rest_until: no request goes out before this time (monotonic clock).
    """

    def __init__(self, address: str, key: str | None) -> None:
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise UserError(
                "rollout.engine.addresses",
                address,
                "is not an address",
                "use one like http://127.0.0.1:8000",
            )
        if parts.username or parts.password:
            raise UserError(
                "rollout.engine.addresses",
                f"...@{parts.hostname}",
                "holds a name or a password, which the saved config would show",
                "put the key into the variable that rollout.engine.api_key_variable names",
            )
        self.address, self.key = address.rstrip("/"), key
        self.secure, self.host, self.port = parts.scheme == "https", parts.hostname, port
        self.path = parts.path.rstrip("/")
        self.up = False
        self.fault: ServerError | None = None
        self.failures, self.rest_until = 0, 0.0

    def call(self, method: str, path: str, body: Any = None, *, seconds: float) -> Any:
        """Return the JSON answer, all of it within ``seconds``.

        Raises:
            ServerError: no answer, a late one, a 5xx status or no JSON.
            EngineError: a 4xx status: asking again would not help.
        """
        status, text = self.exchange(method, path, body, seconds)
        if 400 <= status < 500:
            raise EngineError(refusal(self.address, path, status, text))
        if status >= 500:
            raise ServerError(
                self.address, f"answered {status} to {path} ({short(text)})", "see its log"
            )
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise ServerError(
                self.address,
                f"answered {path} with something that is no JSON ({short(text)})",
                "check that it is vLLM, started by nft-serve, and no proxy in between",
            ) from None

    def exchange(self, method: str, path: str, body: Any, seconds: float) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        deadline = time.monotonic() + seconds
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=seconds)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection.request(method, self.path + path, json.dumps(body or {}), headers)
            response = connection.getresponse()
            pieces = []
            # Bounded as a whole: a server that sends a byte now and then would never time out.
            while piece := response.read1(READ_BYTES):
                pieces.append(piece)
                if time.monotonic() > deadline:
                    raise TimeoutError
            return response.status, b"".join(pieces)
        except TimeoutError:
            raise ServerError(
                self.address,
                f"did not answer {path} within {seconds:g} seconds",
                "see its log, or raise rollout.engine.request_timeout_seconds",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(
                self.address,
                f"cannot be reached ({type(error).__name__}: {str(error) or 'connection closed'})",
                "start it with nft-serve, or take it out of rollout.engine.addresses",
                gone=True,
            ) from None
        finally:
            connection.close()

    def healthy(self) -> bool:
        """Return whether it says so itself, within seconds."""
        try:
            return self.exchange("GET", "/health", None, HEALTH_SECONDS)[0] == 200
        except ServerError as fault:
            self.fault = fault
            return False


def short(text: bytes) -> str:
    """Return the beginning of an answer, on one line; vLLM's message where there is one."""
    try:
        found = json.loads(text)
        error = found.get("error", found.get("detail", text.decode()))
        said = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        said = text.decode(errors="replace")
    said = " ".join(said.split())
    return (said[:160] or "an empty answer").rstrip(".")


def refusal(address: str, path: str, status: int, text: bytes) -> str:
    """Return the sentence for a request that a server refused."""
    remedy = {
        401: "give it the key that the server was started with in the variable that "
        "rollout.engine.api_key_variable names",
        403: "start it with nft-serve, which opens this endpoint",
        404: "start it with nft-serve, which opens this endpoint",
    }.get(status, "compare its model and options with the run's")
    return f"the vLLM server at {address} refused {path} with {status} ({short(text)}): {remedy}"
