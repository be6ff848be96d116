"""Commands as processes of their own, forked from one that has imported everything.

Where the start of Python is not what a test is about, this saves every command its imports. What a test
gives by the environment must not be read when torch is imported, such as ``OMP_NUM_THREADS``.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

TRAIN = "nft_lightning.cli.train"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([TRAIN, "nft_lightning.cli.evaluate"])


def run_module(
    module: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str], outputs: str
) -> None:
    """Run a command's module, or a script, in this process; what it writes goes to two files."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(outputs) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
    # As ``python -m`` finds modules.
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [module, *arguments]
    if module.endswith(".py"):
        runpy.run_path(module, run_name="__main__")
        sys.exit()
    sys.exit(importlib.import_module(module).main())


class Command:
    """A command that has begun; the methods and names are those of ``subprocess.Popen``."""

    def __init__(
        self,
        *arguments: str,
        module: str = TRAIN,
        cwd: Path | None = None,
        **more: str,
    ) -> None:
        self.arguments = [module, *arguments]
        self.outputs = tempfile.TemporaryDirectory()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
        given = (module, arguments, str(cwd or Path.cwd()), environment, self.outputs.name)
        self.process = CONTEXT.Process(target=run_module, args=given)
        self.process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """As ``returncode``."""
        return self.process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end; return what went to stdout and to stderr.

        Raises:
            subprocess.TimeoutExpired: it has not ended within ``timeout`` seconds, and is killed.
        """
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            raise subprocess.TimeoutExpired(self.arguments, timeout, self.written("stderr"))
        return self.written("stdout"), self.written("stderr")

    def written(self, name: str) -> str:
        """What has been written so far."""
        path = Path(self.outputs.name) / name
        return path.read_text() if path.exists() else ""


def cli(
    *arguments: str,
    module: str = TRAIN,
    cwd: Path | None = None,
    timeout: float = 120,
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command, or the script at ``module``, to its end; ``more`` are environment variables."""
    command = Command(*arguments, module=module, cwd=cwd, **more)
    output, errors = command.communicate(timeout)
    return subprocess.CompletedProcess(command.arguments, command.returncode or 0, output, errors)
