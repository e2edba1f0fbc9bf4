"""Ends reads that wait for a silent server.

A thread that waits for bytes can look at nothing else meanwhile, and a status stream is silent for
15 seconds at a time. One thread for all streams of the process looks for them, and is there only
while there are any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Thread

CHECK_S = 0.05


@dataclass(eq=False, frozen=True)
class _Read:
    is_over: Callable[[], bool]
    end: Callable[[], None]


class Guard:
    """Calls ``end`` of every guarded read whose ``is_over`` has become true, once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._reads: set[_Read] = set()
        self._thread: Thread | None = None

    @contextmanager
    def over(self, is_over: Callable[[], bool], end: Callable[[], None]) -> Iterator[None]:
        """Guard the read inside. Both are called on another thread, ``end`` never afterwards."""
        read = _Read(is_over, end)
        with self._lock:
            self._reads.add(read)
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._watch, name="firered-fal-guard", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._reads.discard(read)

    def _watch(self) -> None:
        while True:
            with self._lock:
                if not self._reads:
                    self._thread = None
                    return
                for read in [read for read in self._reads if read.is_over()]:
                    self._reads.discard(read)
                    read.end()
            time.sleep(CHECK_S)


guard = Guard()
"""One for the process."""
