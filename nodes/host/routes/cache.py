"""What results from fal take on disk, and to clear it."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from .. import keeping
from .answering import document_of


async def kept(request: web.Request) -> dict[str, Any]:
    """How many pictures and bytes."""
    return await asyncio.to_thread(keeping.room)


async def clear(request: web.Request) -> dict[str, Any]:
    """Delete what was delivered; what is left."""
    await document_of(request)
    return await asyncio.to_thread(keeping.clear)
