"""Models that are alive, so that the same files are not read and kept twice.

ComfyUI serves equal loader nodes from its own cache. Loaders that differ, but not in what they come
to, such as precision auto and bf16 on a bf16 file, it cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from .model import FireRedModel


class LoadedModels:
    """Keeps nothing alive: a model that nobody holds is forgotten, and loaded anew."""

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[Hashable, FireRedModel] = WeakValueDictionary()

    def get(self, key: Hashable, load: Callable[[], FireRedModel]) -> FireRedModel:
        """The model of ``key``, loaded unless it is alive."""
        found = self._alive.get(key)
        if found is None:
            found = self._alive[key] = load()
        return found


def contents_of(files: Iterable[Path]) -> Hashable:
    """What tells whether ``files`` are still the same, without reading them."""
    stamps = ((file, file.stat()) for file in files)
    return tuple((str(file), stamp.st_mtime_ns, stamp.st_size) for file, stamp in stamps)
