"""Where the fal key comes from; to put one away, remove it, or try it. None of them shows it."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from aiohttp import web

from ....pipeline.errors import MissingPackageError, SetupError
from ....pipeline.fal.keys import remove_key, save_key, source_of_key
from .. import folders
from .answering import Refused, document_of
from .guarding import check_local, is_local

logger = logging.getLogger(__name__)


async def status(request: web.Request) -> dict[str, Any]:
    """Where the key comes from, and whether this page may change it."""
    source = await asyncio.to_thread(source_of_key, os.environ, folders.data_folder())
    return {"source": source, "writable": is_local(request)}


async def save(request: web.Request) -> dict[str, Any]:
    """Put a key into the key file."""
    check_local(request)
    key = (await document_of(request)).get("key")
    if not isinstance(key, str):
        raise Refused(400, "The key must be text.")
    await asyncio.to_thread(_save, key)
    logger.info("the fal key was set in Settings")
    return await status(request)


async def remove(request: web.Request) -> dict[str, Any]:
    """Delete the key file."""
    check_local(request)
    await document_of(request)
    await asyncio.to_thread(remove_key, folders.data_folder())
    logger.info("the fal key was removed in Settings")
    return await status(request)


async def try_out(request: web.Request) -> dict[str, Any]:
    """Ask fal about the key in use."""
    check_local(request)
    await document_of(request)
    return await asyncio.to_thread(_try_out)


def _save(key: str) -> None:
    folder = folders.data_folder()
    if source_of_key(os.environ, folder) == "environment":
        raise SetupError(
            "The environment of ComfyUI holds a fal key, which comes before any other.",
            "Change FAL_KEY there and restart ComfyUI.",
        )
    save_key(folder, key)


def _try_out() -> dict[str, Any]:
    with MissingPackageError.named():
        from ....pipeline.fal.connecting import connect
        from ....pipeline.fal.trying import try_key
    verdict = try_key(connect(folders.data_folder()))
    return {"outcome": verdict.outcome, "reason": verdict.reason}
