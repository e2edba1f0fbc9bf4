"""Waiting for a server on threads of our own.

A synchronous node blocks ComfyUI's event loop for as long as it runs; an edit on fal must go on
meanwhile, and its cancel too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import BoundedSemaphore, Thread
from typing import TypeVar

T = TypeVar("T")

MAX_EDITS = 16
"""Remote edits in flight at once; further ones wait their turn."""

_slots = BoundedSemaphore(MAX_EDITS)


async def in_own_thread(work: Callable[[], T]) -> T:
    """Run ``work`` beside the event loop.

    Work that has begun goes on to its end even if this task is cancelled, as ComfyUI does when
    another node fails; work that still waits for a slot is dropped.
    """
    outcome: Future[T] = Future()
    # A daemon, unlike a pool's threads: closing ComfyUI must not wait for a remote job.
    Thread(target=_run, args=(work, outcome), name="firered-fal", daemon=True).start()
    return await asyncio.wrap_future(outcome)


def _run(work: Callable[[], T], outcome: Future[T]) -> None:
    with _slots:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed on whole to whoever awaits it
            outcome.set_exception(error)
