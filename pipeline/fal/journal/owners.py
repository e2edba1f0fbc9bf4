"""Which processes are still there: each holds a lock that the system frees when it ends.

Neither process numbers, which come again, nor heart beats, which a sleeping laptop misses, can tell
as surely.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from ...errors import JournalError


class Owners:
    """This process's mark in ``folder``, and those of others that share the journal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = Lock()
        self.me = f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._mine = self._lock_of(self.me)
            self._mine.acquire(timeout=0)
        except OSError as error:
            raise JournalError(
                f"The folder {folder.name} of the journal cannot be used: {error.strerror}.",
                "Make it writable and run again.",
            ) from error

    def alive(self, owner: str) -> bool:
        """Whether the process that called itself ``owner`` still runs."""
        if owner == self.me:
            return True
        file = self._folder / owner
        with self._guard:
            if not file.exists():
                return False
            lock = self._lock_of(owner)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return True
            lock.release()
            file.unlink(missing_ok=True)
            return False

    def close(self) -> None:
        """Leave, as the end of the process does."""
        self._mine.release()
        (self._folder / self.me).unlink(missing_ok=True)

    def _lock_of(self, owner: str) -> FileLock:
        return FileLock(self._folder / owner, mode=0o600, thread_local=False)
