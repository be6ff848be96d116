"""Processes that this one started, and their end."""

from __future__ import annotations

import subprocess


def end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Leave no process behind: ask first, then kill."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
