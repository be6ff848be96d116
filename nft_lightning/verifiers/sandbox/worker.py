"""The forked side of the pool: jobs in, verdicts out, with nothing else allowed.

Who judges is a module, the scorer, with two functions: ``judge(how, answer, gold)`` returns the verdict
on one job, and ``prepare()``, called once before workers are forked, returns steps that fill caches
while nobody waits. What the three texts of a job mean is up to the scorer.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from nft_lightning.verdict import Verdict

PR_SET_PDEATHSIG = 1
OPEN_FILES = 64
GARBAGE_THRESHOLD = 50_000
RECYCLE_FRACTION = 0.75
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "shutil.",
    "subprocess.Popen",
    "pty.spawn",
    "socket.",
    "ctypes.dlopen",
)


Judge = Callable[[str, str, str], Verdict]


def work(channel: socket.socket, memory_limit_mb: int, judge: Judge) -> None:
    """Answer jobs until the channel closes or memory runs short.

    A message is one line: ``[[how, answer, gold], ...]``. Each job is answered by a line of its own,
    ``[outcome, extracted, score, cpu_seconds, leaving]``, as soon as it is done.
    """
    end_with_parent()
    confine(memory_limit_mb)
    gc.set_threshold(GARBAGE_THRESHOLD)  # sympy's many small objects rarely form cycles
    for line in channel.makefile("rb"):
        for how, answer, gold in json.loads(line):
            verdict = judged(judge, how, answer, gold)
            # After a failure, or with most of its memory used up, a process is not worth keeping.
            leaving = verdict.outcome == "error" or resident_mb() > memory_limit_mb * RECYCLE_FRACTION
            said = [verdict.outcome, verdict.extracted, verdict.score, time.process_time(), leaving]
            channel.sendall(json.dumps(said).encode() + b"\n")
            if leaving:
                return


def resident_mb() -> float:
    """Memory in use now, in MiB; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return 0.0


def judged(judge: Judge, how: str, answer: str, gold: str) -> Verdict:
    """Return the verdict on one job; a failure is an error, never a wrong answer."""
    try:
        return judge(how, answer, gold)
    except Exception:
        return Verdict("error")


def end_with_parent() -> None:
    """Linux ends this process when its parent, which has one thread, is gone."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or parent == 1:
        os._exit(1)


def confine(memory_limit_mb: int) -> None:
    """Limit memory and files, and refuse processes, sockets and writing from here on."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when the machine runs short, a worker goes before the trainer
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for kind, value in (
        (resource.RLIMIT_AS, memory_limit_mb * 2**20),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))
    sys.addaudithook(refuse)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: scoring needs none of this."""
    if event == "open":
        flags = arguments[2]
        if not (isinstance(flags, int) and flags & WRITE_FLAGS):
            return
    elif not event.startswith(FORBIDDEN):
        return
    raise PermissionError(f"{event} is refused in a verification worker")
