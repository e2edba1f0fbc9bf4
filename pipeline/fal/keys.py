"""Where the fal key is found and put. It is read anew for every edit and kept nowhere else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..errors import InputError, MissingKeyError, SetupError
from .durable import sync_folder, write_durably

KEY_FILE = "fal_key"
"""One line in the data folder, readable by this user only."""

MAX_LENGTH = 2048
"""Characters that are taken into the key file; fal's own keys have 69, a proxy's may be longer."""

Source = Literal["environment", "file", "none"]

_ONE_WORD = re.compile(r"[\x21-\x7e]+")

_COPY_AGAIN = "Copy it again from fal.ai/dashboard/keys."


def find_key(environ: Mapping[str, str], data_folder: Path) -> str:
    """The key from the environment, else from the key file; ``MissingKeyError`` if neither."""
    key = _from_environment(environ) or _from_file(data_folder / KEY_FILE)
    if not key:
        # Said to artists on remote machines too, where Settings takes no key.
        raise MissingKeyError(
            "No fal key was found.",
            "Get one at fal.ai/dashboard/keys, then put it into Settings > FireRed > fal, or set "
            "FAL_KEY on a remote ComfyUI.",
        )
    if not _ONE_WORD.fullmatch(key):
        # Sent as it is, the HTTP library would refuse it with an error that quotes it.
        raise MissingKeyError("The fal key found is not one word of plain characters.", _COPY_AGAIN)
    return key


def source_of_key(environ: Mapping[str, str], data_folder: Path) -> Source:
    """Where ``find_key`` takes the key from, whether or not it can be used."""
    if _from_environment(environ):
        return "environment"
    try:
        return "file" if _from_file(data_folder / KEY_FILE) else "none"
    except MissingKeyError:
        return "file"


def save_key(data_folder: Path, key: str) -> None:
    """Put ``key`` into the key file, in place of what was there.

    Raises ``InputError`` for what cannot be a key, ``SetupError`` where it cannot be written.
    """
    key = key.strip()
    if len(key) > MAX_LENGTH or not _ONE_WORD.fullmatch(key):
        raise InputError(
            f"A fal key is one word of at most {MAX_LENGTH} plain characters.", _COPY_AGAIN
        )
    try:
        data_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(data_folder / KEY_FILE, f"{key}\n".encode())
    except OSError as error:
        raise _unchanged("saved", data_folder, error) from error


def remove_key(data_folder: Path) -> None:
    """Delete the key file, if there is one; ``SetupError`` where it cannot be deleted."""
    try:
        (data_folder / KEY_FILE).unlink()
        sync_folder(data_folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unchanged("removed", data_folder, error) from error


def account_of(key: str) -> str:
    """Tells one fal key from another, and tells nothing else about it."""
    return hashlib.sha256(f"firered account {key}".encode()).hexdigest()[:16]


def _from_environment(environ: Mapping[str, str]) -> str:
    return environ.get("FAL_KEY", "").strip() or _pair(environ)


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


def _unchanged(done: str, folder: Path, error: OSError) -> SetupError:
    return SetupError(
        f"The fal key cannot be {done}: {error.strerror}.",
        f"Make the folder {folder.name} writable and try again, or set FAL_KEY.",
    )
