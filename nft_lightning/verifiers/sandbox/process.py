"""The trainer's side of the fork server: workers to talk to, to watch and to end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field

START_SECONDS = 60.0
STARVED_DEADLINES = 4.0
CPU_SHARE = 1 / 5
BOOT = "import json,sys; sys.path[:] = json.loads(sys.argv[1]); "
BOOT += "from nft_lightning.verifiers.sandbox.forkserver import main; "
BOOT += "main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))"


class ForkServer:
    """Starts in the background; :meth:`fork` waits until it is ready.

    Args:
        scorer: the module that scores.
        memory_limit_mb: address space of each worker, in MiB.
    """

    def __init__(self, scorer: str, memory_limit_mb: int) -> None:
        self.owner, self.ready = os.getpid(), False
        self.control, theirs = socket.socketpair()
        path, limit = [os.path.abspath(p) for p in sys.path], str(memory_limit_mb)
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOOT, json.dumps(path), scorer, str(theirs.fileno()), limit],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            # sympy orders some sets by hash: equal cases shall get equal verdicts in every run.
            # NumPy starts threads, and a server that forks must have one.
            env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        self.control.settimeout(START_SECONDS)

    def fork(self, timeout_seconds: float) -> Worker:
        """Return a new worker, ready for jobs.

        Raises:
            OSError: the server is gone.
            RuntimeError: it never started; the message says why.
        """
        self.wait_ready()
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self.control, [b"fork\n"], [theirs.fileno()])
            pid = int(self.receive())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(timeout_seconds)
        return Worker(pid, ours)

    def wait_ready(self) -> None:
        """Block until the scorer is imported over there."""
        if self.ready:
            return
        said = self.receive()
        if said != b"ready\n":
            self.close()
            raise RuntimeError(f"the verifier's processes cannot start: {said.decode()}")
        self.ready = True

    def kill(self, worker: Worker) -> None:
        """End a worker for good; its process id is free only afterwards."""
        worker.channel.close()
        with contextlib.suppress(OSError):
            self.control.sendall(b"kill %d\n" % worker.pid)
            self.receive()

    def receive(self) -> bytes:
        """Return one answer; an OSError where there will never be one."""
        said = self.control.recv(65536)
        if not said:
            raise ConnectionError("the verifier's fork server ended")
        return said

    def close(self) -> None:
        """End the server, and with it every worker. In a forked copy, only let go."""
        if self.owner != os.getpid():
            self.control.close()
            self.process.returncode = 0  # not ours to wait for
            return
        with contextlib.suppress(OSError):  # reaches the server though a forked copy holds the socket
            self.control.shutdown(socket.SHUT_RDWR)
        self.control.close()
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(eq=False)
class Worker:
    """One process and what it is busy with: indices of jobs, the first of them in work."""

    pid: int
    channel: socket.socket
    jobs: deque[int] = field(default_factory=deque)
    started: float = 0.0
    cpu_before: float = 0.0
    received: bytes = b""

    def send(self, indices: list[int], jobs: list[list[str]]) -> None:
        """Hand over jobs. Raises OSError where the worker is gone or does not read."""
        self.jobs.extend(indices)
        self.started = time.perf_counter()
        self.channel.sendall(json.dumps(jobs).encode() + b"\n")

    def alive(self) -> bool:
        """False where an idle worker is gone: only then is there something to read."""
        return not select.select([self.channel], [], [], 0)[0]

    def replies(self) -> list[tuple[str, str | None, float | None, float, bool]] | None:
        """Return what came in, None where the worker is gone."""
        try:
            chunk = self.channel.recv(2**16)
        except OSError:
            chunk = b""
        if not chunk:
            return None
        *lines, self.received = (self.received + chunk).split(b"\n")
        return [tuple(json.loads(line)) for line in lines]

    def overdue(self, timeout_seconds: float, now: float) -> bool:
        """Return whether the job in work is past its deadline through its own fault.

        A runnable process that got less than a fifth of the time as CPU time is starved by a busy
        machine and is given up to four deadlines. One that sleeps or is stopped is not.
        """
        wall = now - self.started
        if wall < timeout_seconds or wall >= timeout_seconds * STARVED_DEADLINES:
            return wall >= timeout_seconds
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            return True
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return fields[0] not in "RD" or cpu - self.cpu_before >= timeout_seconds * CPU_SHARE
