"""From a request of our own page to an answer in JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias

from aiohttp import web

from ....pipeline.errors import FireRedError

HEADER = "X-FireRed"
"""A form cannot send it, and a script of another site only once ComfyUI has said yes to that."""

MAX_BODY = 4096
"""Bytes; the longest that is sent is a fal key."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]
Work: TypeAlias = Callable[[web.Request], Awaitable[dict[str, Any]]]
"""Makes the JSON of an answer."""


class Refused(Exception):  # noqa: N818 - never leaves the routes
    """The request itself is at fault; ``status`` is HTTP's."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


def answering(work: Work) -> Handler:
    """``work`` for our own page alone, its errors in words."""

    @wraps(work)
    async def handler(request: web.Request) -> web.Response:
        try:
            if request.headers.getall(HEADER, []) != ["1"]:
                raise Refused(403, f"The header {HEADER} is missing.")
            return _answer(200, await work(request))
        except Refused as refused:
            return _answer(refused.status, {"error": str(refused)})
        except FireRedError as error:
            return _answer(409, {"error": str(error)})

    return handler


def _answer(status: int, body: dict[str, Any]) -> web.Response:
    # Prompts are private: no cache keeps them.
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})


async def document_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that is the body."""
    if request.content_type != "application/json":
        raise Refused(415, "The body must be application/json.")
    try:
        document = json.loads(await _body(request))
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise Refused(400, "The body is not a JSON object.")
    return document


async def _body(request: web.Request) -> bytes:
    """The whole body, read no further than it may be long."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(MAX_BODY):
        body += chunk
        if len(body) > MAX_BODY:
            raise Refused(413, f"The body is longer than {MAX_BODY} bytes.")
    return bytes(body)
