"""What the artist chose in ComfyUI's Settings; ``web/firered.js`` puts the choices there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths

from ...pipeline.errors import SetupError

_ALLOW_DOWNLOADS = "FireRed.AllowDownloads"

_USER = "default"
"""With several users nobody knows whose run this is; then only whoever runs the machine counts."""


def check_downloads_allowed(name: str, size: int) -> None:
    """Raise unless the artist allowed downloads: a shared workflow must not be able to."""
    if _setting(_ALLOW_DOWNLOADS) is not True:
        raise SetupError(
            f"{name} is not on this machine, and downloads are not allowed ({size / 1e9:.1f} GB).",
            "Allow them in Settings > FireRed > Downloads, then run again.",
        )


def _setting(name: str) -> Any:
    """The value stored under ``name``; None where nothing readable is stored."""
    folder = folder_paths.get_public_user_directory(_USER)
    try:
        stored = json.loads(Path(folder, "comfy.settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored.get(name) if isinstance(stored, dict) else None
