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

from ..errors import EditCancelled, RemoteTimeoutError
from ..host import Reporter
from .answers import LOOK_FIRST, Job, State, Status
from .client import FalClient

CANCEL_CHECK_S = 0.05
MAX_WAIT_S = 1800.0
"""Longest time in queue and at work together."""

_PROGRESS_TOTAL = 100
_PROGRESS: dict[State, int] = {"IN_QUEUE": 10, "IN_PROGRESS": 30, "COMPLETED": 90}
"""fal reports no percentage for this model; the bar marks the phases."""

T = TypeVar("T")


def submit(send: Callable[[], Job], client: FalClient, host: Reporter) -> Job:
    """The job that ``send`` is given. Cancelled meanwhile, it is cancelled once it is known."""

    def take_back(sent: Future[Job]) -> None:
        if sent.exception() is None:
            client.cancel(sent.result())

    def abandon(sent: Future[Job]) -> None:
        host.say("cancelled while it was sent; fal is told as soon as it answers")
        sent.add_done_callback(take_back)

    return attend(lambda _: send(), host, abandon)


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
    _start(lambda: _settle(outcome, lambda: work(stopped.is_set)))
    try:
        while not futures.wait([outcome], CANCEL_CHECK_S).done:
            if host.cancelled():
                abandon(outcome)
                raise EditCancelled
        return outcome.result()
    finally:
        stopped.set()


def wait(client: FalClient, job: Job, host: Reporter) -> None:
    """Return when ``job`` is completed. On Cancel tell fal at once and raise ``EditCancelled``."""
    stopped = Event()
    deadline = time.monotonic() + MAX_WAIT_S
    state: State | None = None
    try:
        for status in _statuses(client, job, stopped):
            if host.cancelled():
                raise _cancel(client, job, state, host)
            if time.monotonic() > deadline:
                raise RemoteTimeoutError(
                    f"fal has not finished in {MAX_WAIT_S / 60:.0f} minutes.", LOOK_FIRST
                )
            if status is not None:
                state = status.state
                _report(status, host)
    finally:
        stopped.set()


def _statuses(client: FalClient, job: Job, stopped: Event) -> Iterator[Status | None]:
    """The changes of ``job`` as they come, and None every ``CANCEL_CHECK_S`` between them."""
    changes: queue.SimpleQueue[Status] = queue.SimpleQueue()
    outcome: Future[None] = Future()

    def listen() -> None:
        for status in client.follow(job, stopped.is_set):
            changes.put(status)

    _start(lambda: _settle(outcome, listen))
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


def _start(work: Callable[[], None]) -> None:
    Thread(target=work, name="firered-fal-wait", daemon=True).start()


def _settle(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        outcome.set_result(work())
    except Exception as error:  # noqa: BLE001 - raised again on the thread that waits
        outcome.set_exception(error)


def _cancel(client: FalClient, job: Job, state: State | None, host: Reporter) -> EditCancelled:
    if not client.cancel(job):
        host.say("cancelled here, but fal did not confirm: the job may be billed")
    elif state == "IN_QUEUE":
        host.say("cancelled while queued: not billed")
    else:
        host.say("cancelled while running: fal may bill it")
    return EditCancelled()


def _report(status: Status, host: Reporter) -> None:
    host.progress(_PROGRESS[status.state], _PROGRESS_TOTAL)
    if status.logs:
        host.say(status.logs[-1])
    elif status.state == "IN_QUEUE":
        position = status.queue_position
        host.say("queued" if position is None else f"queue position {position}")
    elif status.state == "IN_PROGRESS":
        host.say("running on fal")
