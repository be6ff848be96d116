"""Worker processes that can be killed: a job past its deadline costs its worker, nothing else."""

from __future__ import annotations

import os
import selectors
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nft_lightning.verdict import Verdict
from nft_lightning.verifiers.sandbox.process import ForkServer, Worker

CHUNK_JOBS = 16
CHUNK_CHARACTERS = 2**15
LOOK_SECONDS = 0.05
STUCK_SECONDS = 0.5

Job = tuple[str, str, str]
"""Three texts for the scorer: how to score, the answer, and what it is scored by."""


class WorkerPool:
    """Runs jobs on forked workers; results keep the order of the jobs. Safe from any thread.

    Workers get a few jobs at a time and answer each as it is done; a deadline counts from when the
    worker begins that job. What a killed worker had not begun goes back to the queue. While jobs wait,
    a worker that has been at one for half a second is stood in for, by as many as ``workers`` in all.

    Args:
        scorer: the module that scores, see :mod:`nft_lightning.verifiers.sandbox.worker`.
        workers: processes at full width, started with the first job.
        timeout_seconds: a job's deadline; its worker is killed and replaced.
        memory_limit_mb: address space of a worker, in MiB; a job that needs more is an error.
    """

    def __init__(
        self, scorer: str, workers: int, timeout_seconds: float, memory_limit_mb: int = 1024
    ) -> None:
        self.scorer, self.width = scorer, workers
        self.timeout_seconds, self.memory_limit_mb = timeout_seconds, memory_limit_mb
        self.idle: list[Worker] = []
        self.server: ForkServer | None = None
        self.lock, self.owner = threading.Lock(), os.getpid()

    def start(self) -> None:
        """Start the fork server in the background; returns at once."""
        if self.server is None:
            self.server = ForkServer(self.scorer, self.memory_limit_mb)
            weakref.finalize(self, ForkServer.close, self.server)

    def disown(self) -> None:
        """In a forked copy of the process, let go of workers and lock: they are not its own."""
        if self.owner != os.getpid():
            self.idle, self.lock, self.owner = [], threading.Lock(), os.getpid()
            self.server = None

    def fill(self) -> None:
        """Bring the pool to full width and wait until it is."""
        self.disown()
        with self.lock:
            self.start()
            self.top_up()

    def top_up(self) -> None:
        """Replace the workers that are gone; end those that stood in."""
        while len(self.idle) < self.width:
            self.idle.append(self.fork())
        while len(self.idle) > self.width:
            self.end(self.idle.pop())

    def run(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Return a verdict for each job."""
        if not jobs:
            return []
        self.disown()
        with self.lock:
            try:
                self.start()
                self.top_up()
                verdicts = Batch(self, jobs).run()
                self.top_up()
            except BaseException:  # Ctrl-C, say: no answer of this call may meet the next one
                self.drop()
                raise
            return verdicts

    def take(self) -> Worker:
        """Return an idle worker, or a new one."""
        while self.idle:
            worker = self.idle.pop()
            if worker.alive():
                return worker
            self.end(worker)
        return self.fork()

    def fork(self) -> Worker:
        """Return a new worker; a fork server that is gone is replaced, once."""
        assert self.server is not None
        try:
            return self.server.fork(self.timeout_seconds)
        except OSError:
            self.restart()
            return self.server.fork(self.timeout_seconds)

    def restart(self) -> None:
        """A new fork server."""
        self.drop()
        self.start()

    def drop(self) -> None:
        """End the fork server, and all workers with it."""
        for worker in self.idle:
            worker.channel.close()
        if self.server is not None:
            self.server.close()
        self.idle, self.server = [], None

    def end(self, worker: Worker) -> None:
        """Kill a worker."""
        if self.server is not None:
            self.server.kill(worker)

    def close(self) -> None:
        """End all workers; the next job starts them again."""
        self.disown()
        with self.lock:
            self.drop()

    def __getstate__(self) -> dict[str, object]:
        """Processes do not travel."""
        names = ("scorer", "width", "timeout_seconds", "memory_limit_mb")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state.values())  # type: ignore[misc]


@dataclass
class Batch:
    """The jobs of one call, on their way through the pool."""

    pool: WorkerPool
    jobs: Sequence[Job]

    def __post_init__(self) -> None:
        # Equal golds are together, so that a worker reads each once.
        place = {gold: i for i, gold in reversed(list(enumerate(job[2] for job in self.jobs)))}
        self.waiting = deque(sorted(range(len(self.jobs)), key=lambda i: place[self.jobs[i][2]]))
        self.verdicts: list[Verdict | None] = [None] * len(self.jobs)
        self.busy: set[Worker] = set()
        self.chunk = min(CHUNK_JOBS, max(1, len(self.jobs) // (self.pool.width * 16)))

    def run(self) -> list[Verdict]:
        """Hand out, collect, end what is late, until every job has its verdict."""
        with selectors.DefaultSelector() as selector:
            while self.waiting or self.busy:
                while self.waiting and len(self.busy) < self.pool.width + self.stuck():
                    self.hand_out(selector)
                for key, _ in selector.select(self.patience()):
                    self.collect(selector, key.data)
                now = time.perf_counter()
                for worker in [w for w in self.busy if w.overdue(self.pool.timeout_seconds, now)]:
                    self.lose(selector, worker, "timeout")
        return [v if v is not None else Verdict("error") for v in self.verdicts]

    def hand_out(self, selector: selectors.BaseSelector) -> None:
        """The next few jobs to a worker."""
        worker, indices, characters = self.pool.take(), list[int](), 0
        while self.waiting and len(indices) < self.chunk:
            characters += sum(map(len, self.jobs[self.waiting[0]]))
            if indices and characters > CHUNK_CHARACTERS:
                break
            indices.append(self.waiting.popleft())
        self.busy.add(worker)
        selector.register(worker.channel, selectors.EVENT_READ, worker)
        try:
            worker.send(indices, [list(self.jobs[i]) for i in indices])
        except OSError as error:
            self.lose(selector, worker, "timeout" if isinstance(error, TimeoutError) else "error")

    def stuck(self) -> int:
        """Return how many workers need someone to stand in for them."""
        before = time.perf_counter() - STUCK_SECONDS
        return min(self.pool.width, sum(w.started < before for w in self.busy))

    def patience(self) -> float:
        """Return seconds until the next deadline; the stuck and the starved are looked at now and
        then.
        """
        if self.waiting:
            return LOOK_SECONDS
        oldest = min((w.started for w in self.busy), default=0.0)
        left = oldest + self.pool.timeout_seconds - time.perf_counter()
        return left if left > 0 else LOOK_SECONDS

    def collect(self, selector: selectors.BaseSelector, worker: Worker) -> None:
        """Note what a worker says; one that is gone takes the job it had begun with it."""
        replies = worker.replies()
        if replies is None:
            self.lose(selector, worker, "error")
            return
        now = time.perf_counter()
        leaves = False
        for outcome, extracted, score, cpu, leaves in replies:  # noqa: B007
            seconds = now - worker.started
            self.verdicts[worker.jobs.popleft()] = Verdict(outcome, extracted, seconds, score)
            worker.started, worker.cpu_before = now, cpu
        if leaves:
            self.retire(selector, worker)
        elif not worker.jobs:
            self.busy.remove(worker)
            selector.unregister(worker.channel)
            self.pool.idle.append(worker)

    def lose(self, selector: selectors.BaseSelector, worker: Worker, outcome: str) -> None:
        """End a worker: the job in work gets ``outcome``, the others go back to the queue."""
        seconds = time.perf_counter() - worker.started
        self.verdicts[worker.jobs.popleft()] = Verdict(outcome, seconds=seconds)
        self.retire(selector, worker)

    def retire(self, selector: selectors.BaseSelector, worker: Worker) -> None:
        """End a worker; what it had not begun goes back to the queue."""
        self.busy.remove(worker)
        selector.unregister(worker.channel)
        self.waiting.extendleft(reversed(worker.jobs))
        self.pool.end(worker)
