"""Threads for work that waits for a server, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Crew:
    """At most ``size`` daemon threads, made when there is work and gone when there is none.

    Daemons, unlike the threads of the standard library's pools: closing the program must not wait
    for a server. Work begins in the order it was handed in.
    """

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self._name = name
        self._lock = Lock()
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._working = 0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """The outcome of ``work`` to come. Cancelled before it begins, it never does."""
        outcome: Future[T] = Future()
        with self._lock:
            self._waiting.append((work, outcome))
            if self._working >= self.size:
                return outcome
            self._working += 1
        Thread(target=self._serve, name=self._name, daemon=True).start()
        return outcome

    def _serve(self) -> None:
        while (task := self._next()) is not None:
            settle(*task)
            # Held on to, a result of many megabytes would outlive whoever waited for it.
            del task

    def _next(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._lock:
            if self._waiting and self._working <= self.size:
                return self._waiting.popleft()
            self._working -= 1
            return None


def settle(work: Callable[[], T], outcome: Future[T]) -> None:
    """Carry out ``work`` and put what it returns or raises into ``outcome``."""
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 - handed on whole to whoever waits for it
        outcome.set_exception(error)
