"""fal's queue protocol over one kept-alive session.

A submit is repeated only while fal provably has not accepted it: fal offers no way to tell a
repetition from a second order. Everything that only reads is repeated for as long as it may help.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from datetime import datetime
from typing import Any

import requests

from ...errors import FireRedError
from . import history, submitting
from .answers import Answer, Cancellation, Job, Status, job_named, read_answer, trusted
from .following import Follower
from .hosts import Hosts
from .reading import (
    Missing,
    answering,
    ask,
    download,
    finished,
    is_not_there,
    missing_job,
    persist,
    successful,
)
from .repeating import Again
from .transport import Wire, new_session

__all__ = ["FalClient", "job_named", "new_session"]

CANCEL_TIMEOUT_S = (5.0, 10.0)

Stopped = Callable[[], bool]
"""Asked between tries: once true, no further one is made."""


class FalClient:
    """Submits, follows and fetches jobs with one key. Thread-safe as far as ``requests`` is.

    A job may come from anywhere, a file too: the key goes to the queue of ``hosts`` only, whatever
    addresses the job names.
    """

    def __init__(self, key: str, hosts: Hosts, session: requests.Session) -> None:
        self._wire = Wire(key, session)
        self._hosts = hosts

    @property
    def has_history(self) -> bool:
        """Whether ``find`` has where to look."""
        return self._hosts.api is not None

    def job_named(self, request_id: str) -> Job:
        """The job of which nothing but its id is known."""
        return job_named(self._hosts, request_id)

    def submit(self, payload: dict[str, Any], stopped: Stopped) -> Job:
        """Order one edit.

        ``UncertainError``: fal may have accepted it, and it was sent once. Any other
        ``RemoteError``: fal has not accepted it, and will not.
        """
        return submitting.submit(self._wire, self._hosts, payload, stopped)

    def follow(
        self,
        job: Job,
        stopped: Stopped,
        tell: Callable[[Status], None],
        *,
        cancelled: bool = False,
    ) -> None:
        """Hand every status of ``job`` to ``tell`` as it comes, on this thread.

        Of a ``cancelled`` job fal is believed sooner that it is gone.

        ``tell`` hears of COMPLETED at once; this returns up to a second later, after reading the
        end of the stream, so that its connection can be used again. Once ``stopped``, it returns
        without COMPLETED within a moment, from a silent stream too. Raises ``JobGoneError``,
        ``AccountError``, or ``RemoteTimeoutError`` where fal is not to be reached for long.
        """
        Follower(self._wire, trusted(self._hosts, job), stopped, tell, cancelled).run()

    def result(self, job: Job, stopped: Stopped) -> Answer:
        """The finished job's answer.

        Raises the job's own end (``RejectedError``, ``JobFailedError``), ``JobGoneError``,
        ``AccountError``, ``ResultError`` for an answer without a picture, or
        ``RemoteTimeoutError``: not fetched yet.
        """
        url, missing = trusted(self._hosts, job).response_url, missing_job()

        def once() -> Answer:
            reply = finished(ask(self._wire, url, missing, stopped), self._wire.key)
            try:
                return read_answer(reply)
            except ValueError:
                raise Again("fal's answer is not readable.") from None

        return persist(once, stopped)

    def cancel(self, job: Job, stopped: Stopped) -> Cancellation:
        """Ask fal to stop ``job``. Never raises: the artist is leaving."""
        url, missing = trusted(self._hosts, job).cancel_url, Missing()
        try:
            return persist(lambda: self._cancel(url, missing, stopped), stopped)
        except FireRedError:
            return "unreachable"

    def _cancel(self, url: str, missing: Missing, stopped: Stopped) -> Cancellation:
        reply = answering(
            lambda: self._wire.ask("PUT", url, CANCEL_TIMEOUT_S, stopped=stopped), url
        )
        if reply.status == 400:
            return "finished"
        if is_not_there(reply) and not missing.again():
            return "unknown"
        successful(reply, self._wire.key)
        return "accepted"

    def download(self, url: str, stopped: Stopped) -> bytes:
        """The bytes of a result picture, fetched without the key.

        ``RemoteError`` for a host that is not fal's; ``JobGoneError`` once it is not there.
        """
        trusted_url, missing = self._hosts.check_picture_url(url), Missing()
        return persist(lambda: download(self._wire, trusted_url, missing, stopped), stopped)

    def find(
        self, digest: str, since: datetime, known: Container[str], stopped: Stopped
    ) -> str | None:
        """The id of the request in fal's history whose payload has this digest, None for none.

        ``RemoteTimeoutError`` where the history cannot be read just now.

        ``known`` ones, which belong to other edits, are passed over. ``since`` is the moment before
        the submit.
        """
        if self._hosts.api is None:
            return None
        return history.find(self._wire, self._hosts.api, digest, since, known, stopped)
