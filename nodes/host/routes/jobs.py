"""Which edits on fal wait; to collect one, or to give it up."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import web

from .. import collecting
from .answering import Refused, document_of

_KEY = re.compile(r"[0-9a-f]{64}")


async def waiting(request: web.Request) -> dict[str, Any]:
    """The list, and what was spent today."""
    return await asyncio.to_thread(collecting.waiting_jobs)


async def collect(request: web.Request) -> dict[str, Any]:
    """Save the pictures of one; the names of their files."""
    return {"files": await asyncio.to_thread(collecting.collect, await _key_in(request))}


async def give_up(request: web.Request) -> dict[str, Any]:
    """Strike one off the list."""
    await asyncio.to_thread(collecting.give_up, await _key_in(request))
    return {}


async def _key_in(request: web.Request) -> str:
    key = (await document_of(request)).get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Refused(400, "The key must be 64 hexadecimal digits.")
    return key
