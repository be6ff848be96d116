"""A server of the standard library that answers as vLLM does, or as a test wants it to."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeServer:
    """Answers every control endpoint; ``faults`` maps a path to a function that answers instead.

    Such a function gets the handler, and returns what to answer, or None where it did so itself.
    """

    def __init__(self, tokens=(7, 2), backend="nft_lightning_files", dtype="float32"):
        self.tokens, self.backend, self.dtype = tokens, backend, dtype
        self.version, self.faults, self.calls, self.keys = "default", {}, [], []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                path = self.path.split("?")[0]
                name = body.get("method", path)
                fake.calls.append((name, body))
                fake.keys.append(self.headers.get("Authorization"))
                fault = fake.faults.get(name)
                answer = fault(self) if fault else fake.answer(name, body)
                if answer is not None:
                    self.say(200, json.dumps(answer).encode())

            def say(self, status, data):
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = respond  # noqa: N815

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # the other side may hang up
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, name, body):
        if name == "/finish_weight_update":
            self.version = body["weight_version"]
        answers = {
            "nft_prepare": {
                "results": [{"backend": self.backend, "parameters": 2, "dtype": self.dtype}]
            },
            "nft_unwritten": {"results": [[]]},
            "/reset_prefix_cache": {"success": True},
            "/weight_info": {"weight_version": self.version},
            "/get_world_size": {"world_size": 2},
        }
        if name == "/inference/v1/generate":
            n = body["sampling_params"]["n"]
            return {"choices": [self.choice(i) for i in range(n)]}
        return answers.get(name, {})

    def choice(self, index):
        return {
            "index": index,
            "finish_reason": "stop",
            "token_ids": list(self.tokens),
            "logprobs": {"content": [{"token_id": t, "logprob": -0.5} for t in self.tokens]},
            "weight_versions": [{"version": self.version, "start": 0, "end": len(self.tokens)}],
        }

    @property
    def asked(self):
        return [name for name, _ in self.calls]

    def generated(self):
        return self.asked.count("/inference/v1/generate")


@contextmanager
def fakes(count=1, **options):
    """So many running servers."""
    made = [FakeServer(**options) for _ in range(count)]
    for fake in made:
        threading.Thread(target=fake.http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield made
    finally:
        for fake in made:
            fake.http.shutdown()
            fake.http.server_close()


def status(code, data=b'{"error": {"message": "it broke"}}'):
    """Answer with a status."""
    return lambda handler: handler.say(code, data)


def text(data):
    """Answer 200 with these bytes."""
    return lambda handler: handler.say(200, data)


def hang(seconds):
    """Answer nothing for a while."""
    return lambda handler: time.sleep(seconds)


def drip(handler):
    """Send a byte now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)
