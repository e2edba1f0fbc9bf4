"""Requests that change nothing and may be sent as often as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from ...errors import JobGoneError, RemoteError, RemoteTimeoutError
from .answers import billed_units
from .refusals import ACCOUNT, job_failed, refused
from .repeating import PASSING, Again, repeat, retry_after
from .transport import BROKEN, Reply, Wire, read, trouble

READ_TIMEOUT_S = (10.0, 30.0)
READ_PATIENCE_S = 300.0
"""How long something that only reads is tried again."""

_REPEATABLE = PASSING | {405}
"""405 is one of fal's answers to what comes too soon after the submit."""
_NOT_THERE = frozenset({404, 410})
_NO_PICTURE = frozenset({401, 403, 404, 410})
"""Storage says so of a file that is not there yet, or no longer."""

MISSING_TRIES = 3
MISSING_S = 1.0
"""Something is gone after so many answers that it is not there, over at least this time."""

GONE_S = 10.0
"""The same for a job that is paid for: what fal does not show yet must not be ordered again."""

MAX_PICTURE_BYTES = 256 * 1024 * 1024

STAYS_ORDERED = "The job stays ordered: run the edit again to collect it."

T = TypeVar("T")


def persist(once: Callable[[], T], stopped: Callable[[], bool]) -> T:
    """``once``, tried again for ``READ_PATIENCE_S``; then ``RemoteTimeoutError``."""
    return repeat(once, stopped, READ_PATIENCE_S, _give_up)


def _give_up(failure: Again) -> RemoteTimeoutError:
    return RemoteTimeoutError(failure.problem, STAYS_ORDERED)


class Missing:
    """Counts what is not there: a job for a moment after its submit, a picture before its copy."""

    def __init__(self, believed_after_s: float | None = None) -> None:
        self._believed_after_s = MISSING_S if believed_after_s is None else believed_after_s
        self._since = time.monotonic()
        self._count = 0

    def again(self) -> bool:
        """Count one more; whether it is too early to believe it."""
        if not self._count:
            self._since = time.monotonic()
        self._count += 1
        return (
            self._count < MISSING_TRIES or time.monotonic() - self._since < self._believed_after_s
        )


def missing_job() -> Missing:
    """For a job that nobody has cancelled, as far as is known here."""
    return Missing(GONE_S)


def answering(ask: Callable[[], T], url: str) -> T:
    """What ``ask`` brings from ``url``; ``Again`` or ``RemoteError`` where no answer comes."""
    try:
        return ask()
    except BROKEN as error:
        cause = trouble(error, urlsplit(url).hostname or "")
        if not cause.passing:
            raise RemoteError(cause.problem, cause.remedy) from error
        raise Again(cause.problem) from error


def is_not_there(reply: Reply) -> bool:
    return reply.status in _NOT_THERE


def ask(
    wire: Wire,
    url: str,
    missing: Missing,
    stopped: Callable[[], bool],
    params: Mapping[str, str] | None = None,
) -> Reply:
    """Any answer about a job; ``Again`` for none, ``JobGoneError`` once it is surely not there."""
    reply = answering(
        lambda: wire.ask("GET", url, READ_TIMEOUT_S, params=params, stopped=stopped), url
    )
    if is_not_there(reply) and not missing.again():
        raise JobGoneError(
            "fal does not know this job: it was cancelled in the queue, or has expired.",
            "Run the edit again.",
        )
    if reply.succeeded and not reply.whole:
        raise Again("fal's answer was cut short.")
    return reply


def successful(reply: Reply, key: str) -> Reply:
    """``reply`` if it is a success, else what it means: ``Again``, or an error that is final."""
    if reply.succeeded:
        return reply
    if reply.status in ACCOUNT:
        raise refused(reply, key)
    if reply.status in _REPEATABLE | _NOT_THERE:
        raise Again(f"fal answers with status {reply.status}.", after=retry_after(reply.headers))
    raise RemoteError(f"fal answers with status {reply.status}.", STAYS_ORDERED)


def finished(reply: Reply, key: str) -> Reply:
    """``reply`` if it is a result; raises the job's own failure, which is final, or ``Again``."""
    if reply.status == 422:
        error = refused(reply, key)
        error.units = billed_units(reply)
        raise error
    if reply.status == 400 and b"in progress" in reply.body:
        raise Again("fal has not finished this job.")
    own = "x-fal-request-id" in reply.headers and "x-fal-error-type" in reply.headers
    if own and not reply.succeeded and reply.status not in ACCOUNT | _NOT_THERE | {429}:
        raise job_failed(reply)
    if reply.status == 400:
        raise Again("fal has not finished this job.")
    return successful(reply, key)


def download(wire: Wire, url: str, missing: Missing, stopped: Callable[[], bool]) -> bytes:
    """The bytes of a public file, asked for without the key."""
    reply = answering(lambda: _fetch(wire, url, stopped), url)
    if reply.status in _NO_PICTURE and not missing.again():
        raise JobGoneError("fal no longer has the picture.", "Run the edit again.")
    if reply.status in _NO_PICTURE or (reply.succeeded and not reply.whole):
        raise Again("The picture did not arrive whole.")
    return successful(reply, wire.key).body


def _fetch(wire: Wire, url: str, stopped: Callable[[], bool]) -> Reply:
    with wire.session.get(
        url,
        # Packed on the way, its length would not tell whether all of it came.
        headers={"Accept-Encoding": "identity"},
        timeout=READ_TIMEOUT_S,
        allow_redirects=False,
        stream=True,
    ) as response:
        return read(response, MAX_PICTURE_BYTES, stopped)
