"""Ordering an edit: repeated only while fal provably has not accepted it.

fal cannot be told that a request is a repetition of another; sent twice is paid twice.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ...errors import RemoteError, ResultError, UncertainError
from .answers import LOOK_FIRST, Job, is_request_id, job_named, read_object, trusted
from .hosts import ENDPOINT, Hosts
from .refusals import ACCOUNT, REJECTED, refused
from .repeating import Again, repeat, retry_after
from .transport import BROKEN, Reply, Wire, time_to_send, trouble

SUBMIT_PATIENCE_S = 60.0

_LATER = "Run the edit again later."
_REQUEST_ID = re.compile(rb'"request_id"\s*:\s*"([^"]*)"')


def submit(wire: Wire, hosts: Hosts, payload: dict[str, Any], stopped: Callable[[], bool]) -> Job:
    """The job fal made of ``payload``.

    ``UncertainError`` where fal may have accepted it. Any other ``RemoteError``: it has not, nor
    will it.
    """
    body = json.dumps(payload).encode()

    def once() -> Job:
        if stopped():
            raise RemoteError("The edit was not sent.", "Run it again.")
        return _send(wire, hosts, body)

    return repeat(once, stopped, SUBMIT_PATIENCE_S, _give_up)


def _give_up(failure: Again) -> RemoteError:
    return RemoteError(failure.problem, failure.remedy)


def _send(wire: Wire, hosts: Hosts, body: bytes) -> Job:
    # The position of the file tells what went out: a block is read after the one before it is with
    # the socket, so with one unread fal lacks a part of what Content-Length has promised, and
    # cannot have accepted.
    outgoing = io.BytesIO(body)
    try:
        reply = wire.ask(
            "POST", f"{hosts.queue}/{ENDPOINT}", time_to_send(len(body)), body=outgoing
        )
    except BROKEN as error:
        if outgoing.tell() == len(body):
            raise UncertainError(
                "The connection broke after the edit was sent: fal may have accepted it.",
                LOOK_FIRST,
            ) from error
        cause = trouble(error, urlsplit(hosts.queue).hostname or "")
        if not cause.passing:
            raise RemoteError(cause.problem, cause.remedy) from error
        raise Again(cause.problem, cause.remedy) from error
    except ResultError as error:
        raise _unclear("does not end") from error
    return _judge(reply, hosts, wire.key, arrived=outgoing.tell() == len(body))


def _judge(reply: Reply, hosts: Hosts, key: str, *, arrived: bool) -> Job:
    """The job that ``reply`` names, or what it says instead."""
    if reply.succeeded:
        return _job(reply, hosts)
    if reply.status in REJECTED | ACCOUNT:
        raise refused(reply, key)
    after = retry_after(reply.headers)
    if reply.status == 429:
        raise Again("fal has too many requests from this account.", _LATER, after)
    if _is_front_door(reply) or not arrived:
        raise Again(f"fal's front door fails with status {reply.status}.", _LATER, after)
    raise _unclear(f"has the status {reply.status}")


def _unclear(what: str) -> UncertainError:
    return UncertainError(f"fal's answer to the edit {what}: it may be accepted.", LOOK_FIRST)


def _is_front_door(reply: Reply) -> bool:
    """Whether the ingress answered in the place of fal, which then has not seen the request."""
    ingress = b"nginx" in reply.body and "x-fal-request-id" not in reply.headers
    return reply.status in (502, 503, 504) and ingress


def _job(reply: Reply, hosts: Hosts) -> Job:
    """The accepted job. Its id is paid for: it is taken from whatever is left of the answer."""
    try:
        document = read_object(reply.body)
    except ValueError:
        found = _REQUEST_ID.search(reply.body)
        document = {"request_id": found[1].decode(errors="replace")} if found else {}
    request_id = document.get("request_id")
    if not isinstance(request_id, str) or not is_request_id(request_id):
        raise _unclear("names no request id")
    urls = [document.get(name) for name in ("status_url", "response_url", "cancel_url")]
    known = [url for url in urls if isinstance(url, str)]
    if len(known) < len(urls):
        return job_named(hosts, request_id)
    return trusted(hosts, Job(request_id, *known))
