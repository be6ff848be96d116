"""vLLM for the whole test process: one engine inside it and one server beside it; each takes a while."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from nft_lightning.policy.loading import TinyModel

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300


SHARED = []


def shared_vllm_engine():
    """Return one engine for all; a new one where another engine took its groups along when it went."""
    pytest.importorskip("vllm")
    from vllm.distributed.parallel_state import model_parallel_is_initialized

    from nft_lightning.engines.vllm.engine import VLLMEngineConfig

    if not (SHARED and model_parallel_is_initialized()):
        SHARED.clear()
        policy = TinyModel().load(1.0)
        SHARED.append(VLLMEngineConfig(max_num_seqs=32).build(policy.model, policy.tokenizer))
    return SHARED[0]


class ServedVLLM:
    """``nft-serve`` in a process group of its own, on loopback."""

    def __init__(self, port=None, model="tiny", **environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = port or free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = Path(tempfile.mkdtemp(prefix="nft-serve-")) / "log.txt"
        command = [sys.executable, "-m", "nft_lightning.cli.serve", model, "--port", str(self.port)]
        settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*command, "--max-num-seqs", "32"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **settings},
                start_new_session=True,
            )
        atexit.register(self.kill)

    def wait(self):
        """Until it answers; its log where it ends before."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2)
            except OSError:
                time.sleep(0.5)
            else:
                return self
        raise AssertionError(f"nft-serve did not start: {self.log.read_text()[-3000:]}")

    def kill_engine(self):
        """SIGKILL to the process that computes, which is the largest of the server's children."""
        import psutil

        children = psutil.Process(self.process.pid).children(recursive=True)
        max(children, key=lambda child: child.memory_info().rss).kill()

    def kill(self):
        """SIGKILL to the server and its engine; nothing where they are gone."""
        import psutil

        if self.process.poll() is not None:
            return
        server = psutil.Process(self.process.pid)
        for process in [server, *server.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                # Python's tracker outlives the others, and removes the memory that they shared.
                if "resource_tracker" not in " ".join(process.cmdline()):
                    process.kill()
        self.process.wait()


@functools.cache
def shared_vllm_server():
    pytest.importorskip("vllm")
    return ServedVLLM().wait()


def served_engine(policy, *addresses, **options):
    """An engine over servers; the shared one unless addresses are given."""
    from nft_lightning.engines.vllm_server.config import VLLMServerConfig

    addresses = addresses or (shared_vllm_server().address,)
    return VLLMServerConfig(list(addresses), **options).build(policy.model, policy.tokenizer)
