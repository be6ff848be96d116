"""Worker processes that can be killed: a job past its deadline costs its worker, nothing else."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nft_lightning.types import Verdict


@dataclass
class Job:
    """What a worker is busy with."""

    index: int
    started: float


class WorkerPool:
    """Runs ``nft_lightning.verifiers.worker`` processes; results keep the order of the jobs.

    Args:
        workers: processes at full width, started at the first job.
        timeout_seconds: a job's deadline; its worker is killed and replaced.
    """

    def __init__(self, workers: int, timeout_seconds: float) -> None:
        self.width, self.timeout_seconds = workers, timeout_seconds
        self.idle: list[subprocess.Popen[str]] = []

    def run(self, jobs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """A verdict for each (answer, gold)."""
        verdicts: list[Verdict | None] = [None] * len(jobs)
        waiting, busy = deque(range(len(jobs))), dict[subprocess.Popen[str], Job]()
        with selectors.DefaultSelector() as selector:
            while waiting or busy:
                while waiting and len(busy) < self.width:
                    worker, index = self.take(), waiting.popleft()
                    busy[worker] = Job(index, time.perf_counter())
                    if self.send(worker, *jobs[index]):
                        assert worker.stdout is not None
                        selector.register(worker.stdout, selectors.EVENT_READ, worker)
                    else:
                        self.finish(verdicts, busy, worker, "error")
                self.wait(selector, verdicts, busy)
        return [v if v is not None else Verdict("error") for v in verdicts]

    def wait(
        self,
        selector: selectors.BaseSelector,
        verdicts: list[Verdict | None],
        busy: dict[subprocess.Popen[str], Job],
    ) -> None:
        """Collect what is ready and end what is late."""
        if not busy:
            return
        oldest = min(job.started for job in busy.values())
        patience = max(0.0, oldest + self.timeout_seconds - time.perf_counter())
        for key, _ in selector.select(patience):
            worker = key.data
            selector.unregister(key.fileobj)
            line = worker.stdout.readline()
            outcome = json.loads(line)["outcome"] if line else "error"
            self.finish(verdicts, busy, worker, outcome, reuse=bool(line))
        now = time.perf_counter()
        for worker in [w for w, job in busy.items() if now - job.started >= self.timeout_seconds]:
            assert worker.stdout is not None
            selector.unregister(worker.stdout)
            self.finish(verdicts, busy, worker, "timeout")

    def finish(
        self,
        verdicts: list[Verdict | None],
        busy: dict[subprocess.Popen[str], Job],
        worker: subprocess.Popen[str],
        outcome: str,
        reuse: bool = False,
    ) -> None:
        """Note the verdict; keep the worker or end it."""
        job = busy.pop(worker)
        verdicts[job.index] = Verdict(outcome, seconds=time.perf_counter() - job.started)
        if reuse:
            self.idle.append(worker)
        else:
            end(worker)

    def take(self) -> subprocess.Popen[str]:
        """An idle worker, or a new one."""
        if self.idle:
            return self.idle.pop()
        return subprocess.Popen(
            [sys.executable, "-m", "nft_lightning.verifiers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @staticmethod
    def send(worker: subprocess.Popen[str], answer: str, gold: str) -> bool:
        """False where the worker is gone."""
        assert worker.stdin is not None
        try:
            worker.stdin.write(json.dumps({"answer": answer, "gold": gold}) + "\n")
            worker.stdin.flush()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End all workers."""
        while self.idle:
            end(self.idle.pop())


def end(worker: subprocess.Popen[str]) -> None:
    """Kill and reap; close the pipes."""
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue
