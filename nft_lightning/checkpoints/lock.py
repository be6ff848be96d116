"""One process at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from nft_lightning.errors import UserError

NAME = ".lock"


class RunLock:
    """Held by the process, not by the file: whatever ends the process ends the lock.

    It is a POSIX record lock, which forked children do not inherit.
    """

    def __init__(self, run_dir: str) -> None:
        self.path = Path(run_dir) / NAME
        self.file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock; raises UserError where another process holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self.path, "a+")  # noqa: SIM115
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UserError(
                "run_dir",
                str(self.path.parent),
                f"is in use by {holder}",
                "wait for that run to end, or give another folder",
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self.file = file

    def release(self) -> None:
        """Give it up."""
        if self.file is not None:
            self.file.close()
            self.file = None
