"""How far the colours of two pictures lie apart."""

from __future__ import annotations

import numpy as np

from .motion import Array

_SAMPLES = 250_000
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ],
    dtype=np.float32,
)
_WHITE = _TO_XYZ.sum(axis=1, keepdims=True)
"""D65, as sRGB has it."""


def mean_change(before: Array, after: Array) -> tuple[float, float, float]:
    """The mean of `after` less `before`, R, G and B in 1/255; both are (3, N) in 0..1."""
    red, green, blue = 255 * (after - before).mean(axis=1, dtype=np.float64)
    return float(red), float(green), float(blue)


def mean_delta_e(before: Array, after: Array) -> float:
    """The mean CIE 1976 difference of sRGB colours (3, N) in 0..1, over some of many pixels."""
    every = -(-before.shape[1] // _SAMPLES)
    one, other = (_lab(np.clip(colours[:, ::every], 0, 1)) for colours in (before, after))
    return float(np.sqrt(((other - one) ** 2).sum(axis=0)).mean(dtype=np.float64))


def _lab(colours: Array) -> Array:
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    ratio = _TO_XYZ @ linear / _WHITE
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])
