"""Finding a request in fal's history by what was asked, where the answer that named it was lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ...errors import FireRedError, RemoteTimeoutError
from .answers import is_request_id, read_object
from .hosts import ENDPOINT
from .reading import answering, is_not_there, successful
from .repeating import Again, repeat
from .transport import Reply, Wire

FIND_PATIENCE_S = 30.0
FIND_TIMEOUT_S = (5.0, 10.0)
LOOKED_AT = timedelta(hours=3)
"""How much of the history: a submit does not take longer, nor are clocks further apart."""

MAX_PAGES = 40
PAGE = 50
"""Two thousand requests: more than an account can have at fal within the time looked at."""


def payload_digest(payload: dict[str, Any]) -> str:
    """Equal for payloads that mean the same: however sorted, and with 4.0 for 4."""
    text = json.dumps(_plain(payload), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def find(
    wire: Wire,
    api: str,
    digest: str,
    since: datetime,
    known: Container[str],
    stopped: Callable[[], bool],
) -> str | None:
    """The earliest request from ``since`` on, not ``known``, whose payload has this ``digest``.

    None where there is none, and where this key has no history. Raises ``RemoteTimeoutError``
    where it cannot be read just now, or not to its end: then nobody knows.
    """
    url = f"{api}/v1/models/requests/by-endpoint"

    def listed() -> list[tuple[str, str]]:
        return sorted(
            (str(item.get("sent_at")), item["request_id"])
            for item in _items(wire, url, since, stopped)
            if is_request_id(item.get("request_id")) and item["request_id"] not in known
        )

    def is_it(request_id: str) -> bool:
        # Payloads hold pictures, fifty of them more than an answer may: each is asked for alone.
        query = {**_query(since), "request_id": request_id, "expand": "payloads"}
        items = _list(_page(wire, url, query, stopped))
        shown = [item for item in items if item.get("request_id") == request_id]
        if not shown:
            raise Again("fal's history does not show what it has listed.")
        return any(_digest_of(item) == digest for item in shown)

    try:
        for _, request_id in repeat(listed, stopped, FIND_PATIENCE_S, _give_up):
            if repeat(partial(is_it, request_id), stopped, FIND_PATIENCE_S, _give_up):
                return request_id
    except RemoteTimeoutError:
        raise
    except FireRedError:
        return None
    return None


def _give_up(failure: Again) -> RemoteTimeoutError:
    return RemoteTimeoutError(failure.problem, "Queue again in a few minutes.")


def _digest_of(item: dict[str, Any]) -> str | None:
    payload = item.get("json_input")
    try:
        return payload_digest(payload) if isinstance(payload, dict) else None
    except (ValueError, RecursionError):
        return None


def _query(since: datetime) -> dict[str, str]:
    moments = {"start": since, "end": since + LOOKED_AT}
    times = {name: moment.astimezone(UTC).isoformat() for name, moment in moments.items()}
    return {"endpoint_id": ENDPOINT, **times}


def _list(page: dict[str, Any]) -> list[dict[str, Any]]:
    items = page.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _items(
    wire: Wire, url: str, since: datetime, stopped: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    query = {**_query(since), "limit": str(PAGE)}
    for _ in range(MAX_PAGES):
        page = _page(wire, url, query, stopped)
        yield from _list(page)
        cursor = page.get("next_cursor")
        if not isinstance(cursor, str) or not cursor:
            return
        query["cursor"] = cursor
    raise RemoteTimeoutError("fal's history is too long.", "Look at fal.ai/dashboard.")


def _page(
    wire: Wire, url: str, query: dict[str, str], stopped: Callable[[], bool]
) -> dict[str, Any]:
    def ask() -> Reply:
        return wire.ask("GET", url, FIND_TIMEOUT_S, params=query, stopped=stopped)

    reply = answering(ask, url)
    if is_not_there(reply):
        return {}
    try:
        return read_object(successful(reply, wire.key).body)
    except ValueError:
        raise Again("fal's history is not readable.") from None
