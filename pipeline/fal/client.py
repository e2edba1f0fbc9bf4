"""fal's queue protocol over one kept-alive session.

A submit is sent once and never repeated: fal offers no way to tell a repetition from a second
order. Everything that only reads is repeated for as long as it may help.
"""

from __future__ import annotations

import io
import json
import ssl
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from ..errors import FireRedError, RemoteError, RemoteTimeoutError, ResultError
from .answers import (
    LOOK_FIRST,
    Answer,
    Job,
    Status,
    log_of,
    read_answer,
    read_job,
    read_object,
    read_status,
    refusal,
)
from .hosts import ENDPOINT, Hosts

SUBMIT_TIMEOUT_S = (10.0, 120.0)
READ_TIMEOUT_S = (10.0, 30.0)
STREAM_TIMEOUT_S = (10.0, 45.0)
"""fal sends a heartbeat every 15 seconds; silence of three is a dead connection."""
CANCEL_TIMEOUT_S = (5.0, 10.0)

POLL_S = (0.25, 2.0)
"""Shortest and longest pause between two polls, when the stream is not to be had."""

RETRY_PAUSE_S = (0.4, 10.0)
"""Pause before the second try and the longest one; doubled in between."""
READ_PATIENCE_S = 300.0
"""How long something that only reads is tried again."""

MAX_PICTURE_BYTES = 256 * 1024 * 1024
_CHUNK = 64 * 1024
_REPEATABLE = {408, 425, 429, 500, 502, 503, 504}
_OFFLINE = "Check the internet connection and run again."

T = TypeVar("T")


def new_session() -> requests.Session:
    """A session that repeats nothing by itself: who may repeat what is decided here."""
    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=8, pool_maxsize=32, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    # Without an own rule, requests would put a login from ~/.netrc in the place of the key.
    session.auth = lambda request: request
    return session


class FalClient:
    """Submits, follows and fetches jobs with one key. Thread-safe as far as ``requests`` is."""

    def __init__(self, key: str, hosts: Hosts, session: requests.Session) -> None:
        self._key = key
        self._authorization = {"Authorization": f"Key {key}"}
        self._hosts = hosts
        self._session = session

    def submit(self, payload: dict[str, Any]) -> Job:
        """Order one edit. Raises ``RejectedError`` or ``RemoteError``; never sends it twice."""
        # As a file the body goes out in blocks with a time-out each, however slow the line; sent
        # at once, the whole of it would have to pass within the connect time-out.
        body = io.BytesIO(json.dumps(payload).encode())
        try:
            response = self._session.post(
                f"{self._hosts.queue}/{ENDPOINT}",
                data=body,
                headers={**self._authorization, "Content-Type": "application/json"},
                timeout=SUBMIT_TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            if _never_connected(error):
                raise RemoteError("fal could not be reached.", _OFFLINE) from error
            raise RemoteError(
                "The connection broke while the edit was sent; fal may have accepted it.",
                LOOK_FIRST,
            ) from error
        if not _succeeded(response):
            raise refusal(response, self._key)
        job = read_job(response)
        for url in (job.status_url, job.response_url, job.cancel_url):
            self._hosts.check_job_url(url)
        return job

    def follow(self, job: Job, stopped: Callable[[], bool]) -> Iterator[Status]:
        """Every change of ``job`` until it is completed or ``stopped``: streamed, else polled."""
        for status in chain(self._stream(job, stopped), self._poll(job, stopped)):
            if status is None:
                continue
            yield status
            if status.state == "COMPLETED":
                return

    def _stream(self, job: Job, stopped: Callable[[], bool]) -> Iterator[Status | None]:
        """The status stream; ends early, without an error, wherever it breaks."""
        try:
            with self._session.get(
                f"{job.status_url}/stream",
                params={"logs": "1"},
                headers={**self._authorization, "Accept": "text/event-stream"},
                timeout=STREAM_TIMEOUT_S,
                stream=True,
                allow_redirects=False,
            ) as response:
                for line in response.iter_lines(chunk_size=None) if _succeeded(response) else ():
                    if stopped():
                        return
                    if line.startswith(b"data:"):
                        yield read_status(json.loads(line[5:]))
        except (requests.RequestException, ValueError):
            return

    def _poll(self, job: Job, stopped: Callable[[], bool]) -> Iterator[Status | None]:
        pause, longest = POLL_S
        seen = 0
        while not stopped():
            body = read_object(self._read(job.status_url, stopped, {"logs": "1"}))
            # A poll repeats every line so far; the stream does not.
            yield read_status({**body, "logs": log_of(body)[seen:]})
            seen = max(seen, len(log_of(body)))
            time.sleep(pause)
            pause = min(pause * 1.5, longest)

    def result(self, job: Job, stopped: Callable[[], bool]) -> Answer:
        """The finished job's answer; raises the job's own failure."""
        return read_answer(self._read(job.response_url, stopped))

    def cancel(self, job: Job) -> bool:
        """Ask fal to stop ``job``; whether it agreed. Never raises: the artist is leaving."""
        try:
            response = self._session.put(
                job.cancel_url,
                headers=self._authorization,
                timeout=CANCEL_TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.RequestException:
            return False
        return _succeeded(response)

    def download(self, url: str, stopped: Callable[[], bool]) -> bytes:
        """The bytes of a result picture, fetched without the key."""
        trusted = self._hosts.check_picture_url(url)
        return self._repeat(lambda: self._download_once(trusted), stopped)

    def _download_once(self, url: str) -> bytes:
        with self._session.get(
            url, timeout=READ_TIMEOUT_S, stream=True, allow_redirects=False
        ) as response:
            if response.status_code != 200:
                raise _failure(response, self._key, again=_REPEATABLE | {404})
            body = bytearray()
            for chunk in response.iter_content(_CHUNK):
                body += chunk
                if len(body) > MAX_PICTURE_BYTES:
                    raise ResultError("The result is too large.", "Ask for a smaller size.")
            return bytes(body)

    def _read(
        self, url: str, stopped: Callable[[], bool], params: dict[str, str] | None = None
    ) -> requests.Response:
        return self._repeat(lambda: self._read_once(url, params), stopped)

    def _read_once(self, url: str, params: dict[str, str] | None) -> requests.Response:
        response = self._session.get(
            url,
            params=params,
            headers=self._authorization,
            timeout=READ_TIMEOUT_S,
            allow_redirects=False,
        )
        if _succeeded(response):
            return response
        # With both headers the failure is the job's own outcome, and final.
        final = {"x-fal-request-id", "x-fal-error-type"} <= {
            key.lower() for key in response.headers
        }
        raise _failure(response, self._key, again=set() if final else _REPEATABLE)

    def _repeat(self, once: Callable[[], T], stopped: Callable[[], bool]) -> T:
        """``once``, tried again while its failure may pass, nobody stops it and there is time."""
        deadline = time.monotonic() + READ_PATIENCE_S
        pause, longest = RETRY_PAUSE_S
        while True:
            try:
                return once()
            except _Again as error:
                failure = error.failure.problem
            except requests.RequestException:
                failure = "The connection to fal broke."
            if stopped() or time.monotonic() + pause > deadline:
                raise RemoteTimeoutError(failure, LOOK_FIRST)
            time.sleep(pause)
            pause = min(pause * 2, longest)


def _succeeded(response: requests.Response) -> bool:
    return 200 <= response.status_code < 300


def _failure(response: requests.Response, key: str, again: set[int]) -> Exception:
    """The error of an unsuccessful read, marked where it may pass."""
    failure = refusal(response, key)
    return _Again(failure) if response.status_code in again else failure


def _never_connected(error: requests.RequestException) -> bool:
    """Whether no byte of the request can have arrived: no name, no connection, a false identity."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    return any(
        isinstance(cause, NewConnectionError | ssl.SSLCertVerificationError)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it wraps: requests and urllib3 hand the cause on as an argument."""
    seen: list[BaseException] = [error]
    for current in seen:
        for inner in (*current.args, getattr(current, "reason", None), current.__cause__):
            if isinstance(inner, BaseException) and inner not in seen:
                seen.append(inner)
    return iter(seen)


class _Again(Exception):  # noqa: N818 - a signal between two functions, never seen outside
    """A failure that may pass when the request is repeated."""

    def __init__(self, failure: FireRedError) -> None:
        super().__init__(str(failure))
        self.failure = failure
