"""The header of a GGUF file walked through, before a library makes objects of what it says.

A header counts its values and their elements. The library that reads it believes these numbers, and
of a wrong one makes empty elements until memory ends.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

MAGIC = b"GGUF"
VERSIONS = (2, 3)

MAX_ELEMENTS = 1_000_000
"""Of all lists together. The largest known, a vocabulary, has 152,064."""

MAX_DEPTH = 4
MAX_AXES = 8

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a number, by the number of its kind."""


def check_header(file: Path) -> None:
    """Raise ``ValueError`` or ``struct.error`` where the header of ``file`` leads beyond its end.

    So it does where the file is of the other byte order, which nothing here could compute with.
    """
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise ValueError("not GGUF")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _Walk(content).whole()


class _Walk:
    """A place in a file that moves on with everything that is read."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._place = len(MAGIC)
        self._elements = 0

    def whole(self) -> None:
        if self._number("<I") not in VERSIONS:
            raise ValueError("another version")
        tensors, values = self._number("<Q"), self._number("<Q")
        for _ in range(values):
            self._string()
            self._value(self._number("<I"), 0)
        for _ in range(tensors):
            self._tensor()

    def _tensor(self) -> None:
        self._string()
        axes = self._number("<I")
        if axes > MAX_AXES:
            raise ValueError(f"{axes} axes")
        self._skip(8 * axes + 4 + 8)

    def _value(self, kind: int, depth: int) -> None:
        if kind == _STRING:
            self._string()
        elif kind == _ARRAY:
            self._list(depth + 1)
        elif kind in _SIZES:
            self._skip(_SIZES[kind])
        else:
            raise ValueError(f"a value of kind {kind}")

    def _list(self, depth: int) -> None:
        kind, count = self._number("<I"), self._number("<Q")
        self._elements += count
        if self._elements > MAX_ELEMENTS or depth > MAX_DEPTH:
            raise ValueError(f"{self._elements} elements")
        for _ in range(count):
            self._value(kind, depth)

    def _string(self) -> None:
        self._skip(self._number("<Q"))

    def _number(self, form: str) -> int:
        (number,) = struct.unpack_from(form, self._content, self._place)
        self._place += struct.calcsize(form)
        return int(number)

    def _skip(self, count: int) -> None:
        self._place += count
        if self._place > len(self._content):
            raise ValueError("leads beyond the end")
