"""What the pack's part of the page asks: which edits on fal wait, and to collect one.

Whoever can open ComfyUI may ask, as with ComfyUI's own routes; pages of other sites may not.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias

from aiohttp import web
from server import PromptServer

from ...pipeline.errors import FireRedError
from . import collecting

JOBS = "/firered/jobs"
COLLECT = "/firered/jobs/collect"

HEADER = "X-FireRed"
"""A form cannot send it, and a script of another site only once ComfyUI has said yes to that."""

MAX_BODY = 4096
"""Bytes; a key has 64."""

_KEY = re.compile(r"[0-9a-f]{64}")

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]
Work: TypeAlias = Callable[[web.Request], Awaitable[dict[str, Any]]]
"""Makes the JSON of an answer."""


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The request itself is at fault; ``status`` is HTTP's."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


def register() -> None:
    """Add the routes to ComfyUI's; without a server, or asked again, nothing happens."""
    server = getattr(PromptServer, "instance", None)
    if server is None or any(getattr(route, "path", "") == JOBS for route in server.routes):
        return
    server.routes.get(JOBS)(_answering(_jobs))
    server.routes.post(COLLECT)(_answering(_collect))


def _answering(work: Work) -> Handler:
    """``work`` for our own page alone, its errors in words."""

    @wraps(work)
    async def handler(request: web.Request) -> web.Response:
        try:
            if request.headers.get(HEADER) != "1":
                raise _Refused(403, f"The header {HEADER} is missing.")
            return _answer(200, await work(request))
        except _Refused as refused:
            return _answer(refused.status, {"error": str(refused)})
        except FireRedError as error:
            return _answer(409, {"error": str(error)})

    return handler


def _answer(status: int, body: dict[str, Any]) -> web.Response:
    # Prompts are private: no cache keeps them.
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})


async def _jobs(request: web.Request) -> dict[str, Any]:
    return await asyncio.to_thread(collecting.waiting_jobs)


async def _collect(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise _Refused(415, "The body must be application/json.")
    key = _key_in(await _body(request))
    return {"files": await asyncio.to_thread(collecting.collect, key)}


async def _body(request: web.Request) -> bytes:
    """The whole body, read no further than it may be long."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(MAX_BODY):
        body += chunk
        if len(body) > MAX_BODY:
            raise _Refused(413, f"The body is longer than {MAX_BODY} bytes.")
    return bytes(body)


def _key_in(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _Refused(400, "The body is not JSON.") from None
    key = document.get("key") if isinstance(document, dict) else None
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise _Refused(400, "The key must be 64 hexadecimal digits.")
    return key
