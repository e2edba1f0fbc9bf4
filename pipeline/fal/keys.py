"""Where the fal key is found. It is read anew for every edit and kept nowhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import MissingKeyError

KEY_FILE = "fal_key"
"""One line in the data folder, readable by this user only."""


_ONE_WORD = re.compile(r"[\x21-\x7e]+")


def find_key(environ: Mapping[str, str], data_folder: Path) -> str:
    """The key from the environment, else from the key file; ``MissingKeyError`` if neither."""
    key = environ.get("FAL_KEY", "").strip() or _pair(environ) or _from_file(data_folder / KEY_FILE)
    if key and not _ONE_WORD.fullmatch(key):
        # Sent as it is, the HTTP library would refuse it with an error that quotes it.
        raise MissingKeyError(
            "The fal key found is not one word of plain characters.",
            "Copy it again from fal.ai/dashboard/keys.",
        )
    if not key:
        raise MissingKeyError(
            "No fal key was found.",
            "Get one at fal.ai/dashboard/keys, set it as FAL_KEY in the environment, and restart "
            "ComfyUI.",
        )
    return key


def account_of(key: str) -> str:
    """Tells one fal key from another, and tells nothing else about it."""
    return hashlib.sha256(f"firered account {key}".encode()).hexdigest()[:16]


def _pair(environ: Mapping[str, str]) -> str:
    identity, secret = (
        environ.get("FAL_KEY_ID", "").strip(),
        environ.get("FAL_KEY_SECRET", "").strip(),
    )
    return f"{identity}:{secret}" if identity and secret else ""


def _from_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise MissingKeyError(
            f"The key file {file.name} cannot be read.", "Write it again, or set FAL_KEY."
        ) from error
