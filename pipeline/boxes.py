"""Rectangles of whole pixels."""

from __future__ import annotations

from dataclasses import dataclass

from .geometry import Size


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; ``right`` and ``bottom`` are the first beyond it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)

    @property
    def slices(self) -> tuple[slice, slice]:
        """What cuts it out of an array (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, pixels: int, picture: Size) -> Box:
        """Larger by ``pixels`` on every side, as far as ``picture`` goes."""
        return Box(
            max(0, self.left - pixels),
            max(0, self.top - pixels),
            min(picture.width, self.right + pixels),
            min(picture.height, self.bottom + pixels),
        )

    def moved(self, x: int, y: int) -> Box:
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)
