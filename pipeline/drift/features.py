"""What of two pictures is compared: their fine structure, at several resolutions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .motion import Array, Motion, common, moved_back

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_LOCAL = 8
"""Pixels to each side over which the local mean is taken, twice."""

_COARSEST_AREA = 40_000
_SHORTEST_SIDE = 32
_WHOLE = 0.999
"""Of a reduced pixel's area; rounding takes a little off."""


@dataclass(frozen=True)
class Structure:
    """Both planes less their local mean, taken over the same pixels, and where they count."""

    before: Array
    after: Array
    weight: Array


@dataclass(frozen=True)
class Level:
    """Both lightnesses at one resolution; ``weight`` is 0 at the mask."""

    before: Array
    after: Array
    weight: Array

    def structure(self, motion: Motion) -> Structure:
        """What both show once ``motion`` is undone."""
        weight = common(self.weight, motion)
        cover = _local_sum(weight) + np.float32(1e-6)
        before, after = (
            (plane - _local_sum(plane * weight) / cover) * weight
            for plane in (_smooth(self.before), moved_back(_smooth(self.after), motion))
        )
        return Structure(before, after, weight)


def reduced(plane: Array, area: float) -> Array:
    """``plane`` (H, W) with about ``area`` pixels or less, its corners where they were."""
    # A cheaper filter folds detail into what looks like a shift.
    return _resized(plane, area, Image.Resampling.BICUBIC)


def reduced_weight(weight: Array, area: float) -> Array:
    """``weight`` (H, W) at the size of ``reduced``: 1 where it is 1 throughout a pixel, else 0."""
    return (_resized(weight, area, Image.Resampling.HAMMING) > _WHOLE).astype(np.float32)


def _resized(plane: Array, area: float, resampling: Image.Resampling) -> Array:
    height, width = plane.shape
    factor = math.sqrt(area / plane.size)
    if factor >= 1:
        return plane
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(plane).resize(size, resampling))


def luma(planes: list[Array]) -> Array:
    """The lightness of R, G and B planes, as video weighs them."""
    return np.asarray(np.tensordot(_LUMA, np.stack(planes), axes=1))


def levels(before: Array, after: Array, weight: Array) -> Iterator[Level]:
    """Both lightnesses (H, W) at doubling resolution, the coarsest first."""
    stack = [(before, after, weight)]
    while before.size > _COARSEST_AREA and min(before.shape) >= _SHORTEST_SIDE:
        area = before.size / 4
        before, after = reduced(before, area), reduced(after, area)
        weight = reduced_weight(weight, area)
        stack.append((before, after, weight))
    while stack:
        yield Level(*stack.pop())


def _local_sum(plane: Array) -> Array:
    for _ in range(2):
        padded = np.pad(plane, ((_LOCAL + 1, _LOCAL), (0, 0)))
        total = np.cumsum(padded, axis=0, dtype=np.float64)
        wide = 2 * _LOCAL + 1
        plane = (total[wide:] - total[:-wide]).astype(np.float32).T
    return plane


def _smooth(plane: Array) -> Array:
    """Less of what no resampling keeps: a binomial filter of 5 x 5 pixels."""
    for _ in range(2):
        padded = np.pad(plane, ((2, 2), (0, 0)), mode="edge")
        outer, inner = padded[:-4] + padded[4:], padded[1:-3] + padded[3:-1]
        plane = np.ascontiguousarray(((outer + 4 * inner + 6 * padded[2:-2]) / 16).T)
    return plane
