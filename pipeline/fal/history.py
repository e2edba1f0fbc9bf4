"""Finding a request in fal's history by what was asked, where the answer that named it was lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterator
from datetime import UTC, datetime
from typing import Any

from ..errors import FireRedError, RemoteError
from .answers import is_request_id, read_object
from .hosts import ENDPOINT
from .reading import answering, successful
from .repeating import Again, repeat
from .transport import Reply, Wire

FIND_PATIENCE_S = 30.0
FIND_TIMEOUT_S = (5.0, 10.0)
MAX_PAGES = 20
PAGE = 12
"""Requests of 4 MiB at most, each with its pictures, that fit into one answer."""


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

    None where there is none and where the history is not to be had.
    """

    def once() -> list[tuple[str, str]]:
        # An item may hold pictures: of each only what tells whether it is the one is kept.
        return [
            (str(item.get("sent_at")), item["request_id"])
            for item in _items(wire, api, since, stopped)
            if is_request_id(item.get("request_id"))
            and item["request_id"] not in known
            and _digest_of(item) == digest
        ]

    try:
        matches = repeat(once, stopped, FIND_PATIENCE_S, _give_up)
    except FireRedError:
        return None
    return min(matches)[1] if matches else None


def _give_up(failure: Again) -> RemoteError:
    return RemoteError(failure.problem, "")


def _digest_of(item: dict[str, Any]) -> str | None:
    payload = item.get("json_input")
    try:
        return payload_digest(payload) if isinstance(payload, dict) else None
    except (ValueError, RecursionError):
        return None


def _items(
    wire: Wire, api: str, since: datetime, stopped: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    query = {
        "endpoint_id": ENDPOINT,
        "start": since.astimezone(UTC).isoformat(),
        "expand": "payloads",
        "limit": str(PAGE),
    }
    for _ in range(MAX_PAGES):
        page = _page(wire, f"{api}/v1/models/requests/by-endpoint", query, stopped)
        items = page.get("items")
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict):
                yield item
        cursor = page.get("next_cursor")
        if not isinstance(cursor, str) or not cursor:
            return
        query["cursor"] = cursor


def _page(
    wire: Wire, url: str, query: dict[str, str], stopped: Callable[[], bool]
) -> dict[str, Any]:
    def ask() -> Reply:
        return wire.ask("GET", url, FIND_TIMEOUT_S, params=query, stopped=stopped)

    try:
        return read_object(successful(answering(ask, url), wire.key).body)
    except ValueError:
        raise Again("fal's history is not readable.") from None
