"""Where two planes show the same: their correlation, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .motion import Array

TILE = 16
_TEXTURE = 1 / 255
"""The standard deviation from which a tile counts as textured."""

_NOISE = 0.5 / 255
_ALIKE = 0.5
_LEAST_PIXELS = 20


@dataclass(frozen=True)
class Agreement:
    """``correlation`` of each tile, -1..1, and its ``texture``: its pixels if it has any."""

    correlation: Array
    texture: Array

    @property
    def pixels(self) -> float:
        """How many pixels lie in textured tiles."""
        return float(self.texture.sum())

    @property
    def score(self) -> float:
        """0..1: how well the textured tiles agree."""
        return self._mean(self._trust)

    @property
    def share(self) -> float:
        """0..1: how much of the textured picture shows the same."""
        return self._mean((self.correlation > _ALIKE).astype(np.float32))

    def trust(self, shape: tuple[int, ...]) -> Array:
        """How far each pixel of a plane of ``shape`` is to be trusted, 0..1: as its tile."""
        rows = np.repeat(self._trust, TILE, axis=0)[: shape[0]]
        return np.repeat(rows, TILE, axis=1)[:, : shape[1]]

    @property
    def _trust(self) -> Array:
        return np.clip(self.correlation, 0, 1) ** 2

    def _mean(self, values: Array) -> float:
        return float((self.texture * values).sum()) / max(self.pixels, 1.0)


def agreement(one: Array, other: Array, weight: Array) -> Agreement:
    """Compare two planes (H, W) where ``weight`` is 1; it is 0 elsewhere."""
    weighted_one, weighted_other = one * weight, other * weight
    count = np.maximum(_sums(weight), np.float32(1))
    mean_one, mean_other = _sums(weighted_one) / count, _sums(weighted_other) / count
    power_one = _sums(weighted_one * one) / count - mean_one**2
    power_other = _sums(weighted_other * other) / count - mean_other**2
    together = _sums(weighted_one * other) / count - mean_one * mean_other
    least = np.float32(_NOISE**2)
    powers = np.maximum(power_one, least) * np.maximum(power_other, least)
    textured = (power_one > _TEXTURE**2) & (count > _LEAST_PIXELS)
    return Agreement(together / np.sqrt(powers), count * textured)


def _sums(plane: Array) -> Array:
    rows, columns = (np.arange(0, side, TILE) for side in plane.shape)
    down: Array = np.add.reduceat(plane, rows, axis=0)
    across: Array = np.add.reduceat(down, columns, axis=1)
    return across
