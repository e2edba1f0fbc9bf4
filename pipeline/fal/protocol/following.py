"""A job's states as they come: streamed where that is to be had, else polled."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import requests

from ...errors import RemoteTimeoutError
from .answers import Job, Status, read_object, read_status
from .events import Events
from .guarding import guard
from .reading import Missing, ask, missing_job, persist, successful
from .repeating import Again, pauses, rest, retry_after
from .transport import BROKEN, Wire, pieces

STREAM_TIMEOUT_S = (10.0, 45.0)
"""fal sends a heartbeat every 15 seconds; silence of three is a dead connection."""

STREAM_TRIES = 4
"""Streams that may fail, each followed by a poll, before there is polling only."""

POLL_S = (0.25, 2.0)
"""Shortest and longest pause between two polls."""

DRAIN_S = 1.0
"""How long the end of a stream may keep its reader after the job is completed."""

_LOGS = {"logs": "1"}


class Follower:
    """Tells every status of one job to ``tell``, on the thread that calls ``run``."""

    def __init__(
        self,
        wire: Wire,
        job: Job,
        stopped: Callable[[], bool],
        tell: Callable[[Status], None],
        cancelled: bool,
    ) -> None:
        self._wire = wire
        self._job = job
        self._stopped = stopped
        self._tell = tell
        self._cancelled = cancelled
        self._seen: set[tuple[str, str]] = set()
        self._completed_at: float | None = None

    def run(self) -> None:
        """Return after the job is completed or once stopped; raise what is final."""
        for pause in islice(pauses(), STREAM_TRIES):
            again = self._stream()
            if self._poll() or not rest(pause, self._stopped):
                return
            if not again:
                break
        pause, longest = POLL_S
        while not self._poll():
            rest(pause, self._stopped)
            pause = min(pause * 1.5, longest)

    def _over(self) -> bool:
        return self._completed_at is not None or self._stopped()

    def _poll(self) -> bool:
        """Ask once, unless it is over; whether it is now."""
        if self._over():
            return True
        missing = Missing() if self._cancelled else missing_job()
        try:
            self._take(persist(lambda: self._status(missing), self._stopped))
        except RemoteTimeoutError:
            if not self._stopped():
                raise
        return self._over()

    def _status(self, missing: Missing) -> dict[str, Any]:
        reply = ask(self._wire, self._job.status_url, missing, self._stopped, _LOGS)
        try:
            return read_object(successful(reply, self._wire.key).body)
        except ValueError:
            raise Again("fal's answer is not readable.") from None

    def _take(self, document: dict[str, Any]) -> None:
        status = read_status(document, self._seen)
        if status is None or self._completed_at is not None:
            return
        if status.state == "COMPLETED":
            self._completed_at = time.monotonic()
        self._tell(status)

    def _stream(self) -> bool:
        """Read a status stream to its end; False where fal asks to leave it for a while."""
        # A read that is ended from outside may fail in any way that reading a socket can.
        with (
            suppress(*BROKEN, ValueError),
            self._wire.open(
                "GET",
                f"{self._job.status_url}/stream",
                STREAM_TIMEOUT_S,
                accept="text/event-stream",
                params=_LOGS,
            ) as response,
        ):
            if response.status_code != 200:
                return retry_after(response.headers) is None
            with guard.over(self._is_read, lambda: _hang_up(response)):
                self._listen(response)
        return True

    def _listen(self, response: requests.Response) -> None:
        """Take every event. After the last one the server's own end is awaited: only a connection
        whose answer was read to its end is used again."""
        events = Events()
        for piece in pieces(response, at_least=1):
            for event in events.feed(piece):
                with suppress(ValueError):
                    self._take(read_object(self._wire.without_key(event)))
            if self._is_read():
                return

    def _is_read(self) -> bool:
        """Whether there is no more to read for: not at once when completed, but soon."""
        if self._completed_at is None:
            return self._stopped()
        return time.monotonic() - self._completed_at > DRAIN_S


def _hang_up(response: requests.Response) -> None:
    """Wake the thread that reads ``response``."""
    # Missing in urllib3 before 2.3: there the next heartbeat wakes it.
    shutdown = getattr(response.raw, "shutdown", None)
    with suppress(OSError, RuntimeError, ValueError):
        if shutdown is not None:
            shutdown()
