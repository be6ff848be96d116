"""Ranks as torchrun starts them, forked from a process that has imported everything.

Where torchrun itself is not what a test is about, this saves the imports of every rank but one.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

from torch.distributed import TCPStore

from tests.processes import cli

ROOT = Path(__file__).resolve().parents[1]


def run_ranks(count: int, module: str, *arguments: str, timeout_seconds: float = 500):
    """Run ``python -m module ARG...`` as so many ranks; the finished process."""
    return cli(
        str(count),
        module,
        *arguments,
        module="tests.forked_ranks",
        cwd=ROOT,
        timeout=timeout_seconds,
        PYTHONPATH=str(ROOT),
    )


def one_rank(rank: int, module: str, shared: dict[str, str]) -> int:
    """Run the module as this rank; its exit code."""
    os.environ.update({**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> int:
    """Fork the ranks; where one fails the others are ended, as torchrun does."""
    count, module = int(sys.argv[1]), sys.argv[2]
    importlib.import_module(module)
    sys.argv = sys.argv[2:]
    # As torchrun's agent, this process keeps the store: the first rank may be done before the others.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    shared |= {"TORCHELASTIC_RUN_ID": "forked", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0"}
    running = set()
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            code = one_rank(rank, module, shared)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        running.add(pid)
    failed = 0
    while running:
        pid, status = os.wait()
        running.discard(pid)
        if status and not failed:
            failed = 1
            for other in running:
                os.kill(other, signal.SIGTERM)
    return failed
