"""One request to fal's storage, and its repetition for as long as the failure may pass.

Storage is free and an upload is harmless to repeat, so everything here may be sent again.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from ...errors import EditCancelled, ResultError
from ..protocol.answers import read_object
from ..protocol.repeating import PASSING, pauses, rest, retry_after
from ..protocol.transport import BROKEN, Reply, read, time_to_send, trouble

MAX_ANSWER_BYTES = 1024 * 1024
_LATER = "Wait a few minutes and run again; nothing was ordered."

T = TypeVar("T")


class Failed(Exception):  # noqa: N818 - a signal inside the storage client, never seen outside
    """A request without success. ``status`` is None where no answer came.

    ``passing``: repeating may help, ``after`` so many seconds where the server said.
    """

    def __init__(
        self,
        problem: str,
        remedy: str = _LATER,
        *,
        status: int | None = None,
        passing: bool = False,
        after: float | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.status = status
        self.passing = passing
        self.after = after


def send(
    session: requests.Session, method: str, url: str, headers: Mapping[str, str], data: bytes
) -> bytes:
    """The body of a successful answer; ``Failed`` for any other end. Follows no redirect."""
    host = urlsplit(url).hostname or ""
    try:
        with session.request(
            method,
            url,
            data=io.BytesIO(data),
            headers=headers,
            timeout=time_to_send(len(data)),
            allow_redirects=False,
            stream=True,
        ) as response:
            reply = read(response, MAX_ANSWER_BYTES, lambda: False)
    except ResultError as error:
        raise Failed(f"{host} gave an answer that does not end.") from error
    except BROKEN as error:
        found = trouble(error, host)
        raise Failed(found.problem, found.remedy, passing=found.passing) from error
    return _body(reply, host)


def _body(reply: Reply, host: str) -> bytes:
    if not reply.succeeded:
        raise Failed(
            f"{host} answered with status {reply.status}.",
            status=reply.status,
            passing=reply.status in PASSING,
            after=retry_after(reply.headers),
        )
    if not reply.whole:
        raise Failed(f"The connection to {host} broke.", passing=True)
    return reply.body


def read_text(body: bytes, *names: str) -> list[str]:
    """The texts that ``body``, a JSON object, holds under ``names``; ``Failed`` without them."""
    try:
        document = read_object(body)
    except ValueError:
        document = {}
    found = [value for name in names if isinstance(value := document.get(name), str)]
    if len(found) < len(names):
        raise Failed("fal's storage gave an answer that is not readable.")
    return found


def repeat(
    once: Callable[[], T], stopped: Callable[[], bool], patience_s: Callable[[Failed], float]
) -> T:
    """``once``, tried again for at most ``patience_s`` of its failure while that may pass.

    Raises its last ``Failed``, or ``EditCancelled`` once ``stopped``.
    """
    began = time.monotonic()
    for pause in pauses():
        try:
            return once()
        except Failed as failure:
            wait = pause if failure.after is None else failure.after
            if not failure.passing or time.monotonic() - began + wait > patience_s(failure):
                raise
        if not rest(wait, stopped):
            raise EditCancelled
    raise AssertionError("pauses do not end")
