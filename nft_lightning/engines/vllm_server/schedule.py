"""Requests spread over servers: whoever is free takes the next, whoever fails loses its requests."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nft_lightning.engines.base import EngineError
from nft_lightning.engines.vllm_server.http import Server, ServerError

log = logging.getLogger(__name__)
Job = TypeVar("Job")
Answer = TypeVar("Answer")
LONGEST_REST_SECONDS = 30.0


@dataclass(frozen=True)
class Retries:
    """How often and how soon a failed request goes out again.

    Attributes:
        max_attempts: tries of one request, and bursts of faults in a row that one server may have.
        backoff_seconds: a server's rest after its first fault; it doubles with each further one.
        requests_per_server: requests that one server has at a time.
    """

    max_attempts: int
    backoff_seconds: float
    requests_per_server: int


class Spread(Generic[Job, Answer]):
    """Jobs, their answers so far, and the threads that get the rest.

    Args:
        jobs: what to ask. ask: puts one job to one server, or raises ServerError.
        follow: told of each answer, in the thread that got it; :meth:`go_on` must be called once
            for each, from any thread, before all counts as done.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        ask: Callable[[Server, Job], Answer],
        retries: Retries,
        follow: Callable[[int, Answer], None] | None = None,
    ) -> None:
        self.jobs, self.ask, self.retries, self.follow = list(jobs), ask, retries, follow
        self.answers: dict[int, Answer] = {}
        self.tries = [0] * len(jobs)
        self.todo = deque(range(len(jobs)))
        self.followed = 0
        self.fatal: Exception | None = None
        self.change = threading.Condition()

    @property
    def done(self) -> bool:
        """Return whether every job has its answer, and nothing more can come of one."""
        return len(self.answers) == len(self.jobs) and not self.followed

    def go_on(self, more: Sequence[Job]) -> None:
        """An answer that was followed brings these further jobs, or none."""
        with self.change:
            self.todo.extend(range(len(self.jobs), len(self.jobs) + len(more)))
            self.jobs += more
            self.tries += [0] * len(more)
            self.followed -= 1
            self.change.notify_all()

    def fail(self, error: Exception) -> None:
        """Stop asking; ``run`` raises this."""
        with self.change:
            self.fatal = self.fatal or error
            self.change.notify_all()

    def run(self, servers: Sequence[Server]) -> bool:
        """Ask until all is answered (True) or no server is up (False); answers are kept.

        Raises:
            EngineError: a request was refused, or failed ``max_attempts`` times.
        """
        up = [s for s in servers if s.up]
        count = min(self.retries.requests_per_server, max(1, len(self.jobs)))
        threads = [
            threading.Thread(target=self.serve, args=(s,), daemon=True) for s in up for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            with self.change:
                while not (self.fatal or self.done) and any(s.up for s in up):
                    self.change.wait()
        except BaseException as error:
            # An interrupt reaches only this thread; the others must not continue asking.
            self.fail(error if isinstance(error, Exception) else EngineError("interrupted"))
            raise
        if self.fatal:
            raise self.fatal
        if not self.done:
            for thread in threads:
                thread.join()
        return self.done

    def serve(self, server: Server) -> None:
        """One thread of a server: take a job, ask, note what came."""
        while (i := self.next_job(server)) is not None:
            asked = time.monotonic()
            try:
                answer = self.ask(server, self.jobs[i])
            except ServerError as fault:
                self.failed(server, i, fault, asked)
            except Exception as error:
                self.fail(error)
            else:
                with self.change:
                    self.answers[i] = answer
                    self.followed += self.follow is not None
                    server.failures = 0
                    self.change.notify_all()
                if self.follow is not None:
                    self.follow(i, answer)

    def next_job(self, server: Server) -> int | None:
        """Return the next job once the server has rested; None where there is nothing left for it to
        do.
        """
        with self.change:
            while not (self.fatal or self.done) and server.up:
                rest = server.rest_until - time.monotonic()
                if rest <= 0 and self.todo:
                    return self.todo.popleft()
                self.change.wait(rest if rest > 0 else None)
        return None

    def failed(self, server: Server, i: int, fault: ServerError, asked: float) -> None:
        """Give the job back; let the server rest, or give it up."""
        limit = self.retries.max_attempts
        with self.change:
            self.todo.appendleft(i)
            server.fault = fault
            # A server that is gone says nothing about the request.
            self.tries[i] += not fault.gone
            if self.tries[i] >= limit:
                self.fatal = EngineError(f"a request failed {limit} times: {fault}")
            # Requests that were under way together fail together: that is one burst.
            if asked >= server.rest_until - self.rest(server.failures):
                server.failures += 1
                server.rest_until = time.monotonic() + self.rest(server.failures)
                log.warning("%s", fault)
            if server.up and (fault.gone or server.failures >= limit):
                server.up = False
                log.warning("no more requests go to %s before the next weight sync", server.address)
            self.change.notify_all()

    def rest(self, failures: int) -> float:
        """Return seconds of rest after so many bursts; none after none."""
        if not failures:
            return 0.0
        return min(self.retries.backoff_seconds * 2.0 ** (failures - 1), LONGEST_REST_SECONDS)
