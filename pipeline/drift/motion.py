"""How one picture lies against another, and values moved back by that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
"""float32 values: planes are (H, W), pictures (H, W, 3)."""

_MARGIN = 3.0
"""Pixels at the edge of `after` that interpolation makes up in part."""

_TAPS = range(-2, 4)
_ROWS = 64


@dataclass(frozen=True)
class Motion:
    """What is at ``q`` from the centre of `before` is at ``scale * q + (x, y)`` in `after`.

    ``x`` is in widths and ``y`` in heights of the picture: a motion means the same at every
    resolution.
    """

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0

    def then(self, small: Motion) -> Motion:
        """This motion, where what it brought back lies against `before` by ``small``."""
        x, y = self.x + self.scale * small.x, self.y + self.scale * small.y
        return Motion(x, y, self.scale * small.scale)

    def inverse(self) -> Motion:
        return Motion(-self.x / self.scale, -self.y / self.scale, 1 / self.scale)

    def reach(self, width: int, height: int) -> float:
        """The farthest that it takes any pixel of a picture of this size, in pixels."""
        zoom = abs(self.scale - 1) / 2
        return math.hypot((abs(self.x) + zoom) * width, (abs(self.y) + zoom) * height)


def moved_back(values: Array, motion: Motion) -> Array:
    """A plane or picture of `after` with everything where `before` has it, its edges repeated."""
    if motion == Motion():
        return values
    down = _resampled(values, motion.y, motion.scale)
    across = _resampled(_transposed(down), motion.x, motion.scale)
    return _transposed(across)


def common(weight: Array, motion: Motion) -> Array:
    """``weight`` (H, W) of what both pictures show, 0 elsewhere.

    What is masked counts in neither: nobody knows whether a mask fits the picture before or after.
    """
    if motion == Motion():
        return weight
    height, width = weight.shape
    margin = min(_MARGIN, height / 8, width / 8)
    down = _within(height, motion.y, motion.scale, margin)
    across = _within(width, motion.x, motion.scale, margin)
    shown = weight * np.outer(down, across)
    return shown * (moved_back(weight, motion) > 0.99) if weight.min() < 1 else shown


def _transposed(values: Array) -> Array:
    return np.ascontiguousarray(np.swapaxes(values, 0, 1))


def _resampled(values: Array, offset: float, scale: float) -> Array:
    """The rows of ``values``, interpolated where a motion puts them."""
    places = _places(len(values), offset, scale) - 0.5
    first = np.floor(places).astype(np.intp)
    shares = [_share(tap, places - first).reshape(-1, *[1] * (values.ndim - 1)) for tap in _TAPS]
    moved = np.empty_like(values, order="C")
    # A few rows at a time stay in the processor's cache.
    for start in range(0, len(values), _ROWS):
        some = slice(start, start + _ROWS)
        total = np.zeros_like(moved[some])
        for tap, share in zip(_TAPS, shares, strict=True):
            rows = values[np.clip(first[some] + tap, 0, len(values) - 1)]
            rows *= share[some]
            total += rows
        moved[some] = total
    return moved


def _share(tap: int, fraction: np.ndarray) -> Array:
    """Of pixel ``tap`` at ``fraction`` past pixel 0: Lagrange's polynomial of degree 5.

    A windowed sinc moves what it interpolates by up to a hundredth of a pixel of its own.
    """
    others = [other for other in _TAPS if other != tap]
    share = np.prod([(fraction - other) / (tap - other) for other in others], axis=0)
    return np.asarray(share, dtype=np.float32)


def _places(side: int, offset: float, scale: float) -> np.ndarray:
    """Where in `after` the middles of a row's pixels lie, in pixels from its edge."""
    return side * (0.5 + offset - scale / 2) + (np.arange(side) + 0.5) * scale


def _within(side: int, offset: float, scale: float, margin: float) -> Array:
    places = _places(side, offset, scale)
    return ((places >= margin) & (places <= side - margin)).astype(np.float32)
