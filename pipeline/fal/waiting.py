"""Waiting for a job with one ear for the artist's Cancel."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from threading import Event, Thread

from ..errors import EditCancelled, RemoteTimeoutError
from ..host import Reporter
from .answers import Job, Status
from .client import FalClient

CANCEL_CHECK_S = 0.05
MAX_WAIT_S = 1800.0
"""Longest time in queue and at work together."""

_PROGRESS_TOTAL = 100
_PROGRESS = {"IN_QUEUE": 10, "IN_PROGRESS": 30, "COMPLETED": 90}
"""fal reports no percentage for this model; the bar marks the phases."""


def wait(client: FalClient, job: Job, host: Reporter) -> None:
    """Return when ``job`` is completed. On Cancel tell fal at once and raise ``EditCancelled``."""
    stopped = Event()
    deadline = time.monotonic() + MAX_WAIT_S
    state = "IN_QUEUE"
    try:
        for status in _statuses(client, job, stopped):
            if host.cancelled():
                raise _cancel(client, job, state, host)
            if time.monotonic() > deadline:
                raise RemoteTimeoutError(
                    f"fal has not finished request {job.request_id} in {MAX_WAIT_S / 60:.0f} "
                    "minutes; it may still finish and be billed.",
                    "Look at fal.ai/dashboard before running again.",
                )
            if status is not None:
                state = status.state
                _report(status, host)
    finally:
        stopped.set()


def _statuses(client: FalClient, job: Job, stopped: Event) -> Iterator[Status | None]:
    """The changes of ``job`` as they come, and None every ``CANCEL_CHECK_S`` between them."""
    changes: queue.SimpleQueue[Status | Exception] = queue.SimpleQueue()

    def listen() -> None:
        try:
            for status in client.follow(job, stopped.is_set):
                changes.put(status)
        except Exception as error:  # noqa: BLE001 - raised again on the thread that waits
            changes.put(error)

    Thread(target=listen, name="firered-fal-status", daemon=True).start()
    while True:
        try:
            change = changes.get(timeout=CANCEL_CHECK_S)
        except queue.Empty:
            yield None
            continue
        if isinstance(change, Exception):
            raise change
        yield change
        if change.state == "COMPLETED":
            return


def _cancel(client: FalClient, job: Job, state: str, host: Reporter) -> EditCancelled:
    agreed = client.cancel(job)
    if not agreed:
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
