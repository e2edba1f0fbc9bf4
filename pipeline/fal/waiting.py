"""Waiting for fal with one ear for the artist's Cancel.

Whatever takes time runs on a thread of its own; the thread that waits for it looks at the cancel
flag twenty times a second.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from threading import Event, Thread
from typing import TypeVar

from ..crew import settle
from ..errors import EditCancelled, RemoteTimeoutError, clean
from ..host import Phase, Reporter
from .pacing import RunPace
from .protocol.answers import State, Status

CANCEL_CHECK_S = 0.05

MAX_QUEUE_S = 1800.0
MAX_RUN_S = 1800.0
"""How long an edit waits in fal's queue, and how long for fal to work at it."""

STAYS_ORDERED = "It stays ordered: run again to go on waiting for it, at no further cost."

_PROGRESS_TOTAL = 100
_PROGRESS: dict[State, int] = {"IN_QUEUE": 10, "IN_PROGRESS": 30, "COMPLETED": 90}
"""fal reports no percentage for this model; the bar marks the phases."""

AT_FAL = "at fal"
"""How an edit that was sent is counted beside others."""

T = TypeVar("T")

Follow = Callable[[Callable[[], bool], Callable[[Status], None]], None]
"""Hands every status of a job to the second, until it is completed or the first is true."""


def attend(
    work: Callable[[Callable[[], bool]], T],
    host: Reporter,
    abandon: Callable[[Future[T]], None] = lambda _: None,
) -> T:
    """Run ``work`` on a thread and return its outcome.

    On Cancel call ``abandon`` with what is still running and raise ``EditCancelled`` at once;
    ``work`` is handed a function that tells it so.
    """
    outcome: Future[T] = Future()
    stopped = Event()
    _start(lambda: settle(lambda: work(stopped.is_set), outcome))
    try:
        while not futures.wait([outcome], CANCEL_CHECK_S).done:
            if host.cancelled():
                stopped.set()
                abandon(outcome)
                raise EditCancelled
        return outcome.result()
    finally:
        stopped.set()


class Watch:
    """Follows one job to its completion; ``state`` is what fal last said of it."""

    def __init__(self, follow: Follow, host: Reporter, pace: RunPace) -> None:
        self._follow = follow
        self._host = host
        self._pace = pace
        self.state: State | None = None

    def wait(self) -> None:
        """Return when the job is completed.

        Raises ``EditCancelled`` on Cancel, and ``RemoteTimeoutError`` where fal takes too long;
        neither is told to fal here.
        """
        stopped = Event()
        patience = _Patience()
        try:
            for status in self._statuses(stopped):
                if self._host.cancelled():
                    raise EditCancelled
                if status is not None:
                    self.state = status.state
                    self._pace.note(status.state)
                    self._report(status)
                patience.check(self.state)
        finally:
            stopped.set()

    def _report(self, status: Status) -> None:
        self._host.progress(_PROGRESS[status.state], _PROGRESS_TOTAL)
        if phase := _phase(status, self._pace.expected_s):
            self._host.phase(phase)

    def _statuses(self, stopped: Event) -> Iterator[Status | None]:
        """The changes of the job as they come, and None every ``CANCEL_CHECK_S`` between them."""
        changes: queue.SimpleQueue[Status] = queue.SimpleQueue()
        outcome: Future[None] = Future()
        _start(lambda: settle(lambda: self._follow(stopped.is_set, changes.put), outcome))
        while True:
            try:
                change = changes.get(timeout=CANCEL_CHECK_S)
            except queue.Empty:
                if outcome.done():
                    outcome.result()
                yield None
                continue
            yield change
            if change.state == "COMPLETED":
                return


class _Patience:
    """Time spent in the queue and time spent at work, each with its bound."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._running = False

    def check(self, state: State | None) -> None:
        if state == "IN_PROGRESS" and not self._running:
            self._since, self._running = time.monotonic(), True
        spent = time.monotonic() - self._since
        if self._running and spent > MAX_RUN_S:
            raise RemoteTimeoutError(
                f"fal has not finished in {_minutes(MAX_RUN_S)}.", STAYS_ORDERED
            )
        if not self._running and spent > MAX_QUEUE_S:
            raise RemoteTimeoutError(
                f"fal has kept this edit in its queue for {_minutes(MAX_QUEUE_S)}.", STAYS_ORDERED
            )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes"


def _start(work: Callable[[], None]) -> None:
    Thread(target=work, name="firered-fal-wait", daemon=True).start()


def _phase(status: Status, expected_s: float | None) -> Phase | None:
    """What there is to say of a job; nothing where it is over, as the next phase follows at once.

    fal's own words, such as the step it is at, come before ours.
    """
    own = clean(status.logs[-1]) if status.logs else ""
    if status.state == "IN_PROGRESS":
        return Phase(own or "running on fal", "run", expected_s, AT_FAL)
    if status.state == "IN_QUEUE":
        position = status.queue_position
        place = "queued" if position is None else f"queue position {position}"
        return Phase(own or place, "queue", counted=AT_FAL)
    return Phase(own, "run", expected_s, AT_FAL) if own else None
