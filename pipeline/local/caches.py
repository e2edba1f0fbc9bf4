"""What an edit computed and the next one may need again, found by its content.

A key is a digest of everything that decides the value, so a hit never changes a result. Values lie
in main memory: the device belongs to ComfyUI's memory manager.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from torch import Tensor

LIMIT_BYTES = 1024**3
"""Room for about five tables of 40 steps, or for hundreds of prompts and pictures."""

Value = tuple[Tensor, ...]


@dataclass
class Usage:
    """How often one kind of value was found, and how often it had to be computed."""

    hits: int = 0
    misses: int = 0


def digest(*parts: object) -> str:
    """A key for content: bytes as they are, everything else by its ``repr``."""
    found = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        found.update(f"{type(part).__name__} {len(data)} ".encode())
        found.update(data)
    return found.hexdigest()


class Cache:
    """Least recently used values go first once ``limit`` bytes are exceeded."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes held."""
        with self._lock:
            return sum(map(_size, self._values.values()))

    def get(self, key: str, compute: Callable[[], Value], usage: Usage) -> Value:
        """The value of ``key``, computed where it is not there; counted in ``usage``."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                usage.hits += 1
                return self._values[key]
        usage.misses += 1
        # A view would keep more alive than is counted.
        value = tuple(tensor.to("cpu", copy=True) for tensor in compute())
        self._put(key, value)
        return value

    def has(self, key: str) -> bool:
        with self._lock:
            return key in self._values

    def clear(self) -> None:
        with self._lock:
            self._values.clear()

    def _put(self, key: str, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            held = sum(map(_size, self._values.values()))
            # The newest stays even where it alone is too large: the edit at hand needs it.
            while held > self._limit and len(self._values) > 1:
                _, dropped = self._values.popitem(last=False)
                held -= _size(dropped)


def _size(value: Value) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in value)
