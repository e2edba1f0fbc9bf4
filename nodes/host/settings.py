"""What the artist chose in Settings; ``web/settings/settings.js`` puts the choices there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import folder_paths

from ...pipeline.errors import SetupError
from ...pipeline.host import RemoteSettings

_ALLOW_DOWNLOADS = "FireRed.AllowDownloads"

_WINDOW = "FireRed.Window"
_DAILY_LIMIT = "FireRed.DailyLimit"
_UPLOAD_HOURS = "FireRed.UploadHours"

WINDOW = (1, 64)
UPLOAD_HOURS = (1, 24 * 30)

_USER = "default"
"""With several users nobody knows whose run this is; then only whoever runs the machine counts."""


def check_downloads_allowed(name: str, size: int) -> None:
    """Raise unless the artist allowed downloads: a shared workflow must not be able to."""
    if _stored().get(_ALLOW_DOWNLOADS) is not True:
        raise SetupError(
            f"{name} is not on this machine, and downloads are not allowed ({size / 1e9:.1f} GB).",
            "Allow them in Settings > FireRed > Downloads, then run again.",
        )


def remote() -> RemoteSettings:
    """What holds for edits on fal now; a value that makes no sense counts as not set."""
    default, stored = RemoteSettings(), _stored()
    window = _number(stored.get(_WINDOW), WINDOW) or default.window
    limit = _number(stored.get(_DAILY_LIMIT), (0.0, math.inf))
    hours = _number(stored.get(_UPLOAD_HOURS), UPLOAD_HOURS)
    return RemoteSettings(
        window=int(window),
        # Zero, where the setting stands at first, is no limit.
        daily_limit=limit or None,
        upload_lifetime_s=int(hours * 3600) if hours else default.upload_lifetime_s,
    )


def _number(value: Any, allowed: tuple[float, float]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if allowed[0] <= value <= allowed[1] else None


def _stored() -> dict[str, Any]:
    """Every setting that was ever changed; empty where nothing readable is stored."""
    folder = folder_paths.get_public_user_directory(_USER)
    try:
        stored = json.loads(Path(folder, "comfy.settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}
