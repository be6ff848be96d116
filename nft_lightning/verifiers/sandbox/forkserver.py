"""A process that imports a scorer once and forks workers that are ready at once.

Run by :mod:`nft_lightning.verifiers.sandbox.process`. It has one thread and imports no torch, so forking
is safe and takes milliseconds. It ends its workers and itself when the trainer's process is gone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from functools import partial

PATIENCE_SECONDS = 0.5


def main(scorer: str, control_fd: int, memory_limit_mb: int) -> None:
    """Serve ``fork`` (with a socket attached) and ``kill PID`` until the control socket closes.

    ``scorer`` is a module, see :mod:`nft_lightning.verifiers.sandbox.worker`.
    """
    control = socket.socket(fileno=control_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    try:
        import importlib
        import logging

        from nft_lightning.verifiers.sandbox.worker import work

        judging = importlib.import_module(scorer)
        steps = list(judging.prepare())
    except BaseException:
        control.sendall(traceback.format_exc().encode())
        return
    logging.disable(logging.CRITICAL)
    gc.freeze()
    gc.enable()
    control.sendall(b"ready\n")
    parent, children = os.getppid(), set[int]()
    try:
        while os.getppid() == parent:
            ready, _, _ = select.select([control], [], [], 0 if steps else PATIENCE_SECONDS)
            reap(children)
            if not ready:
                if steps:
                    steps.pop(0)()
                continue
            message, fds, _, _ = socket.recv_fds(control, 1024, 1)
            if not message:
                return
            if message == b"fork\n":
                child = os.fork()
                if child == 0:
                    serve(
                        control,
                        fds[0],
                        partial(work, memory_limit_mb=memory_limit_mb, judge=judging.judge),
                    )
                os.close(fds[0])
                children.add(child)
                control.sendall(b"%d\n" % child)
            else:
                end(int(message.split()[1]), children)
                control.sendall(b"done\n")
    finally:
        for pid in list(children):
            end(pid, children)


def serve(control: socket.socket, fd: int, work: Callable[[socket.socket], None]) -> None:
    """The child's whole life."""
    try:
        control.close()
        work(socket.socket(fileno=fd))
    finally:
        os._exit(0)


def reap(children: set[int]) -> None:
    """Collect the workers that ended by themselves."""
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            children.discard(pid)


def end(pid: int, children: set[int]) -> None:
    """Kill and collect one worker; a number that is no longer ours is left alone."""
    if pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        children.discard(pid)
