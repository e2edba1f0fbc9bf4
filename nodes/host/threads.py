"""Waiting for a server on threads of our own.

A synchronous node blocks ComfyUI's event loop for as long as it runs; an edit on fal must go on
meanwhile, and its cancel too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ...pipeline.crew import Crew
from . import settings

T = TypeVar("T")

AHEAD = 4
"""Edits that encode and upload while those in the window are at fal."""

_crew = Crew("firered-fal", size=1)


async def in_own_thread(work: Callable[[], T]) -> T:
    """Run ``work`` beside the event loop.

    Work that has begun goes on to its end even if this task is cancelled, as ComfyUI does when
    another node fails; work that still waits for its turn is dropped.
    """
    _crew.size = settings.remote().window + AHEAD
    return await asyncio.wrap_future(_crew.submit(work))
