"""The button that frees memory, heard by what we remember ourselves.

ComfyUI unloads models by that button, and whenever there is no room for another; only the first is
the artist's wish to begin afresh. No event tells them apart, so the function behind the button is
wrapped; beside it ComfyUI only calls that one after it ran out of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import comfy.model_management

_listeners: list[WeakMethod[Any]] = []


def on_free(forget: Callable[[], None]) -> None:
    """Call the bound method ``forget`` when the artist frees memory, while its object lives."""
    _notice_frees()
    _listeners[:] = [listener for listener in _listeners if listener() is not None]
    _listeners.append(WeakMethod(forget))


def _notice_frees() -> None:
    original = comfy.model_management.unload_all_models
    if getattr(original, "noticed_by_firered", False):
        return

    def noticed() -> Any:
        for listener in list(_listeners):
            if (forget := listener()) is not None:
                forget()
        return original()

    noticed.noticed_by_firered = True  # type: ignore[attr-defined]
    comfy.model_management.unload_all_models = noticed
