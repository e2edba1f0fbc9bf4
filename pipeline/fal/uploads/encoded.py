"""Pictures encoded before: an artist tries many prompts and seeds on the same ones."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

LIMIT_BYTES = 64 * 1024**2
"""Some forty photographs of a megapixel, as PNG."""


class Encoded:
    """Files by the digest of their picture; the least recently used go first."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, digest: str) -> bytes | None:
        """The file of that picture, if it is still here."""
        with self._lock:
            if digest in self._files:
                self._files.move_to_end(digest)
            return self._files.get(digest)

    def put(self, digest: str, data: bytes) -> None:
        """Keep ``data`` for as long as there is room."""
        with self._lock:
            self._size += len(data) - len(self._files.pop(digest, b""))
            self._files[digest] = data
            while self._size > self._limit:
                _, dropped = self._files.popitem(last=False)
                self._size -= len(dropped)

    def clear(self) -> None:
        with self._lock:
            self._files.clear()
            self._size = 0


encoded = Encoded()
"""One for the process."""
