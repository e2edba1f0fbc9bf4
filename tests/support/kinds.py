"""Names for the callables that fixtures hand to tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from firered_edit.pipeline.images import Pixels, Reference


class MakePhoto(Protocol):
    """Photo-like pixels of a width and height."""

    def __call__(self, width: int, height: int) -> Pixels: ...


class MakeReference(Protocol):
    """A photo-like reference of a width and height."""

    def __call__(self, width: int, height: int) -> Reference: ...
