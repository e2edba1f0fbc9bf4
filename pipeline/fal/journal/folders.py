"""One of a kind for each folder in this process, however many threads ask first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class PerFolder(Generic[T]):
    """Makes a ``T`` for a folder when it is first asked for, and keeps it."""

    def __init__(self, make: Callable[[Path], T]) -> None:
        self._make = make
        self._made: dict[Path, T] = {}
        self._lock = Lock()

    def __call__(self, folder: Path) -> T:
        with self._lock:
            known = folder.absolute()
            if known not in self._made:
                self._made[known] = self._make(known)
            return self._made[known]

    def forget(self) -> list[T]:
        """All that were made, which are no longer kept: what ends with them is the caller's."""
        with self._lock:
            made = list(self._made.values())
            self._made.clear()
            return made
