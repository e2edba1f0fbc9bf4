"""Server-sent events, put together from pieces that end anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_EVENT_BYTES = 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
"""A carriage return at the very end may be half of a line end."""


class Events:
    """Takes a stream piece by piece and gives the data of each event that has become whole.

    Comments are left out; an event of more than ``MAX_EVENT_BYTES`` is passed over.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        *lines, self._rest = _LINE_END.split(self._rest + piece)
        for line in lines:
            if line:
                self._add(line)
                continue
            if self._data:
                yield b"\n".join(self._data)
            self._begin()
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            self._skip()
            self._rest = b":"  # what is left of this line makes a comment of it

    def _add(self, line: bytes) -> None:
        self._size += len(line)
        if self._size > MAX_EVENT_BYTES:
            self._skip()
        elif line.startswith(b"data:") and not self._skipping:
            self._data.append(line[5:].removeprefix(b" "))

    def _begin(self) -> None:
        self._data, self._size, self._skipping = [], 0, False

    def _skip(self) -> None:
        self._data, self._size, self._skipping = [], 0, True
