"""Starts the ranks of a run on this host, with torch's elastic launcher, and speaks for all of them."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, launch_agent

from nft_lightning.distributed.preemption import Preempted
from nft_lightning.errors import UserError

LAUNCHED = "NFT_LIGHTNING_LAUNCHED"
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"
# Time for a last checkpoint of a large model; a cluster ends a job sooner than this by itself.
SHUTDOWN_SECONDS = 600
DEFAULT_PORT = 29500
PR_SET_PDEATHSIG = 1
EXIT_FAILED = 1
LAST_LINES = 12


@dataclass(frozen=True)
class Ranks:
    """How many ranks a command wants.

    Attributes:
        per_host: ranks that each host starts; hosts: how many hosts.
        threads: threads of torch that one rank wants; 0 shares the host's cores out evenly.
    """

    per_host: int
    hosts: int = 1
    threads: int = 0

    @property
    def several(self) -> bool:
        """Return whether there is more than one."""
        return self.per_host * self.hosts > 1


def launch(module: str, arguments: Sequence[str], ranks: Ranks) -> int:
    """Run ``python -m module arguments`` on every rank of this host, and return the exit code.

    Rank 0 writes to the screen. Of the others only what ended the run is shown, with their number.

    Raises:
        UserError: several hosts are asked for, and nothing says where they meet.
    """
    endpoint = meeting_place(ranks)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    share = ranks.threads or max(1, (os.cpu_count() or 1) // ranks.per_host)
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
    os.environ[LAUNCHED] = "1"
    with tempfile.TemporaryDirectory(prefix="nft_ranks_") as folder:
        others: dict[int, Std] = dict.fromkeys(range(1, ranks.per_host), Std.ALL)
        logs = DefaultLogsSpecs(
            folder, redirects={0: Std.ERR, **others} if others else Std.ERR, tee={0: Std.ERR}
        )
        config = LaunchConfig(
            min_nodes=ranks.hosts,
            max_nodes=ranks.hosts,
            nproc_per_node=ranks.per_host,
            logs_specs=logs,
            run_id="nft_lightning",
            rdzv_endpoint=endpoint,
            rdzv_backend="c10d",
            max_restarts=0,
            role="",
            log_line_prefix_template="${role_name}",
            signals_to_handle=SIGNALS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        try:
            launch_agent(config, sys.executable, ["-m", module, *arguments])
        except SignalException as asked:
            return Preempted(asked.sigval).exit_code
        except ChildFailedError as error:
            return report(error, Path(folder))
    return 0


def meeting_place(ranks: Ranks) -> str:
    """Return host and port where the hosts of a run meet: any free port where there is one host."""
    if ranks.hosts == 1:
        return "localhost:0"
    address = os.environ.get("MASTER_ADDR")
    if not address:
        raise UserError(
            "trainer.num_nodes",
            ranks.hosts,
            "does not say where the hosts meet",
            "set MASTER_ADDR to the first host's name on each of them, or start the ranks by srun",
        )
    return f"{address}:{os.environ.get('MASTER_PORT', DEFAULT_PORT)}"


def report(error: ChildFailedError, folder: Path) -> int:
    """Show why the first rank failed, unless rank 0 has said it already; return its exit code."""
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        sys.stderr.write(
            f"stopped: rank {rank} was ended by {name}, and the others were stopped; if memory ran out, "
            "see docs/scale.md; nft-train resume=RUN_FOLDER continues from the last checkpoint.\n"
        )
        return EXIT_FAILED
    said = last_words(failure, folder)
    shown = "".join(path.read_text(errors="replace") for path in folder.rglob("0/stderr.log"))
    if failure.local_rank != 0 and said and said not in shown:
        sys.stderr.write(f"rank {rank}: {said}\n")
    return failure.exitcode


def last_words(failure: ProcessFailure, folder: Path) -> str:
    """Return the end of what a rank wrote to its stderr: one sentence, or a traceback's last lines."""
    logs = sorted(folder.rglob(f"{failure.local_rank}/stderr.log"))
    lines = logs[-1].read_text(errors="replace").strip().splitlines() if logs else []
    if lines and lines[-1].startswith(("error: ", "stopped: ", "left on ")):
        return lines[-1]
    return "\n".join(lines[-LAST_LINES:])


def end_with_the_launcher() -> None:
    """Let Linux end this rank when its launcher dies, so that no rank is left behind on a GPU."""
    if os.environ.get(LAUNCHED):
        end_with_the_parent()


def end_with_the_parent() -> None:
    """Let Linux end this process when the one that started it dies."""
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ranks_of(trainer: Any) -> Ranks:
    """Return how many ranks the config node ``trainer`` asks for, as Lightning reads it."""
    hosts = int(trainer.get("num_nodes") or 1)
    threads = int(trainer.get("threads") or 0)
    return Ranks(devices_per_host(trainer, str(trainer.get("accelerator", "auto"))), hosts, threads)


def devices_per_host(node: Any, accelerator: str) -> int:
    """Return how many devices of one host ``node.devices`` names: one rank for each.

    It is a number, a list, ``"0,1"``, or ``auto`` or -1 for all GPUs, as Lightning reads it.
    """
    given = node.get("devices", 1)
    if isinstance(given, str) and "," in given:
        return len([d for d in given.split(",") if d.strip()])
    if isinstance(given, str) and given.strip().isdigit():
        return int(given)
    if isinstance(given, int) and given >= 0:
        return given
    if isinstance(given, int | str) or given is None:
        return max(1, torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") else 0)
    return len(given)
