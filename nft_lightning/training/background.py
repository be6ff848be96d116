"""A thread that does one task after another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Does tasks in their order on a daemon thread: a process that ends does not wait for them."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self.work, daemon=True, name="rollouts").start()

    def run(self, task: Callable[[], T]) -> Future[T]:
        """Return the future of what ``task`` returns or raises."""
        future: Future[T] = Future()
        self.tasks.put((future, task))
        return future

    def work(self) -> None:
        """Do tasks until the process ends."""
        while True:
            future, task = self.tasks.get()
            try:
                made = task()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(made)


def done(result: T) -> Future[T]:
    """Return a future that has its result."""
    future: Future[T] = Future()
    future.set_result(result)
    return future


def succeeded(future: Future[Any]) -> bool:
    """Return whether the result is there."""
    return future.done() and future.exception() is None
