"""Hearing what ComfyUI does where it has no event for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import comfy.model_management


def notice(name: str, heard: Callable[..., None]) -> None:
    """From now on ``heard`` gets the arguments of every call of the model manager's ``name``.

    It is called before the function itself. Asked again, nothing changes.
    """
    original = getattr(comfy.model_management, name)
    if getattr(original, "noticed_by_firered", False):
        return

    @wraps(original)
    def noticed(*arguments: Any, **named: Any) -> Any:
        heard(*arguments, **named)
        return original(*arguments, **named)

    noticed.noticed_by_firered = True  # type: ignore[attr-defined]
    setattr(comfy.model_management, name, noticed)
