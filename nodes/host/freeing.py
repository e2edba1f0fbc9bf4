"""The button that frees memory, heard by what we remember ourselves.

ComfyUI unloads models by that button, and whenever there is no room for another; only the first is
the artist's wish to begin afresh. No event tells them apart, so the function behind the button is
wrapped; beside it ComfyUI only calls that one after it ran out of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from .noticing import notice

_listeners: list[WeakMethod[Any]] = []


def on_free(forget: Callable[[], None]) -> None:
    """Call the bound method ``forget`` when the artist frees memory, while its object lives."""
    notice("unload_all_models", _tell)
    _listeners[:] = [listener for listener in _listeners if listener() is not None]
    _listeners.append(WeakMethod(forget))


def _tell() -> None:
    for listener in list(_listeners):
        if (forget := listener()) is not None:
            forget()
